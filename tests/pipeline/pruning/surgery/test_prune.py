from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline.errors import CutError
from pipeline.pruning.surgery.prune import check, cut, prune
from tests.pipeline.pruning.networks import (
    IMAGES,
    Chain,
    Concat,
    InvertedResidual,
    Residual,
    level_of,
    studied,
)  # fmt: skip


def layers(network: nn.Module) -> dict[str, nn.Module]:
    return dict(network.named_modules())


def test_the_base_is_left_as_it_was() -> None:
    model, space, ranking = studied(Residual)
    before = copy.deepcopy(model.state_dict())
    prune(model, space, tuple(max(g.levels) for g in space.groups), ranking, IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_cut_network_answers_as_the_base_does_without_the_weights_that_read_the_channels() -> None:
    model, space, ranking = studied(Chain)
    pruned = prune(model, space, level_of(space, conv1=50), ranking, IMAGES)
    masked = copy.deepcopy(model)
    masked.conv2.weight.data[:, ranking["conv1"][:4]] = 0
    torch.testing.assert_close(pruned(IMAGES), masked(IMAGES))
    assert pruned.conv1.weight.shape == (4, 3, 3, 3)
    assert pruned.bn1.num_features == 4


def test_flattened_features_are_cut_where_their_channel_was() -> None:
    model, space, ranking = studied(Chain)
    pruned = prune(model, space, level_of(space, conv2=50), ranking, IMAGES)
    masked = copy.deepcopy(model)
    masked.hidden.weight.data.view(12, 16, 16)[:, ranking["conv2"][:8]] = 0
    torch.testing.assert_close(pruned(IMAGES), masked(IMAGES))
    assert pruned.hidden.in_features == 8 * 16


def test_concatenated_branches_are_cut_each_by_itself() -> None:
    model, space, ranking = studied(Concat)
    pruned = prune(model, space, level_of(space, right=75), ranking, IMAGES)
    masked = copy.deepcopy(model)
    masked.join.weight.data[:, 8 : 8 + 12] = 0
    torch.testing.assert_close(pruned(IMAGES), masked(IMAGES))
    assert pruned.join.in_channels == 8 + 4


def test_a_removed_block_becomes_its_shortcut() -> None:
    model, space, ranking = studied(Residual)
    pruned = prune(model, space, level_of(space, block2__conv1=100, block2__conv2=100), ranking, IMAGES)
    torch.testing.assert_close(pruned(IMAGES), by_hand(model, ("block1", "block3")))
    assert not [name for name in layers(pruned) if name.startswith("block2.")]


def by_hand(model: nn.Module, blocks: tuple[str, ...]) -> torch.Tensor:
    """The Residual toy, written out, with these blocks alone; a projecting block that goes leaves its projection."""
    modules = layers(model)
    x = torch.relu(modules["stem"](IMAGES))
    for name in ("block1", "block2", "block3"):
        shortcut = x
        if name == "block1":
            shortcut = modules["block1.downsample.1"](modules["block1.downsample.0"](x))
        if name in blocks:
            y = torch.relu(modules[f"{name}.bn1"](modules[f"{name}.conv1"](x)))
            y = torch.relu(modules[f"{name}.bn2"](modules[f"{name}.conv2"](y)))
            y = modules[f"{name}.bn3"](modules[f"{name}.conv3"](y))
            shortcut = shortcut + y
        x = torch.relu(shortcut)
    return modules["fc"](x.mean((2, 3)))


def test_a_removed_projecting_block_becomes_its_projection() -> None:
    model, space, ranking = studied(Residual)
    pruned = prune(model, space, level_of(space, block1__conv1=100), ranking, IMAGES)
    torch.testing.assert_close(pruned(IMAGES), by_hand(model, ("block2", "block3")))
    assert sorted(n for n in layers(pruned) if n.startswith("block1.downsample.")) == [
        "block1.downsample.0", "block1.downsample.1",
    ]  # fmt: skip
    assert "block1.conv3" not in layers(pruned)


def test_all_blocks_can_go_at_once() -> None:
    model, space, ranking = studied(Residual)
    levels = tuple(100 if g.bypass else 0 for g in space.groups)
    torch.testing.assert_close(prune(model, space, levels, ranking, IMAGES)(IMAGES), by_hand(model, ()))


def test_neighbouring_blocks_without_an_activation_between_can_both_go() -> None:
    model, space, ranking = studied(InvertedResidual)
    levels = tuple(100 if g.bypass else 0 for g in space.groups)
    pruned = prune(model, space, levels, ranking, IMAGES)
    torch.testing.assert_close(pruned(IMAGES), model.fc(model.stem(IMAGES).mean((2, 3))))
    assert [n for n, m in layers(pruned).items() if not list(m.children())] == ["stem", "fc"]


def test_the_stream_is_cut_although_its_first_layer_went_with_a_block() -> None:
    model, space, ranking = studied(InvertedResidual)
    stream = next(g for g in space.groups if "stem" in g.layers)
    gone = next(g for g in space.groups if g.bypass)
    levels = tuple(100 if g is gone else 50 if g is stream else 0 for g in space.groups)
    pruned = prune(model, space, levels, ranking, IMAGES)
    assert gone.name not in layers(pruned)
    assert pruned.stem.out_channels == pruned.fc.in_features == 4


def test_a_block_cannot_keep_nothing_without_a_shortcut() -> None:
    model, space, ranking = studied(Chain)
    kept = {g.name: g.channels for g in space.groups}
    with pytest.raises(CutError, match="conv1: all channels would go and there is no way around them"):
        cut(model, space, {**kept, "conv1": 0}, ranking, IMAGES)


@pytest.mark.slow
def test_every_legal_level_of_every_group_gives_the_planned_widths() -> None:
    for kind in (Chain, Residual, InvertedResidual, Concat):
        model, space, ranking = studied(kind)
        for i, group in enumerate(space.groups):
            for level in group.levels:
                levels = tuple(level if j == i else 0 for j in range(len(space.groups)))
                pruned = prune(model, space, levels, ranking, IMAGES)
                assert pruned(IMAGES).shape == (4, 5)
                widths = {layers(pruned)[n].weight.shape[0] for n in group.layers if n in layers(pruned)}
                assert widths <= {group.kept[level]}


def test_a_sabotaged_network_is_caught_whichever_way_it_is_broken() -> None:
    model, space, ranking = studied(Residual)
    planned = {"stem": 8, "block1.conv1": 4}
    good = prune(model, space, level_of(space, block1__conv1=50), ranking, IMAGES)
    check(good, model, planned, IMAGES)

    wider = copy.deepcopy(good)
    wider.stem = nn.Conv2d(3, 9, 3, padding=1)
    with pytest.raises(CutError, match="stem has 9 channels after the cut, planned were 8"):
        check(wider, model, planned, IMAGES)

    torn = copy.deepcopy(good)
    torn.get_submodule("block1").conv2 = nn.Conv2d(5, 8, 3, padding=1)
    with pytest.raises(CutError, match=r"does not run after the cut: .*channels"):
        check(torn, model, planned, IMAGES)

    shorter = copy.deepcopy(good)
    shorter.fc = nn.Linear(16, 4)
    with pytest.raises(CutError, match=r"shape changed from \(1, 5\) to \(1, 4\)"):
        check(shorter, model, planned, IMAGES)

    poisoned = copy.deepcopy(good)
    poisoned.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(CutError, match="not finite"):
        check(poisoned, model, planned, IMAGES)
