from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError, CutError, ModelError
from pipeline.models import load_model
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.search_space import kept_channels, search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace
from tests.pipeline.pruning.networks import (
    IMAGES,
    Chain,
    Concat,
    Grouped,
    InvertedResidual,
    Residual,
    Reversed,
    Shuffle,
    in_order,
    studied,
    traced,
)  # fmt: skip


def named(space: SearchSpace) -> dict[str, dict[int, int]]:
    return {g.name: dict(g.kept) for g in space.groups}


def test_widths_round_up_to_the_step_and_equal_levels_are_masked() -> None:
    _, space, _ = studied(Chain, step=8)
    assert named(space) == {"conv2": {0: 16, 50: 8}, "hidden": {0: 12, 50: 8}}
    assert kept_channels(17, 75, 8) == 8
    assert kept_channels(3, 75, 8) == 3


def test_a_layer_no_wider_than_the_step_is_refused_and_the_reason_said() -> None:
    _, space, _ = studied(Chain, step=8)
    assert "8 channels are no more than this device computes at once (8)" in space.refused["conv1"]


def test_the_layer_that_makes_the_output_stays() -> None:
    for kind in (Chain, Residual, InvertedResidual, Concat):
        _, space, _ = studied(kind)
        assert space.refused["fc"] == "it makes the output"


def test_a_hundred_percent_is_legal_only_inside_a_block() -> None:
    _, space, _ = studied(Residual)
    removable = {g.name: g.bypass for g in space.groups if 100 in g.kept}
    assert removable == {f"block{b}.conv{c}": f"add{s}" for b, s in ((1, ""), (2, "_1"), (3, "_2")) for c in (1, 2)}
    _, chain, _ = studied(Chain)
    assert not any(100 in g.kept for g in chain.groups)


def test_a_blocks_groups_go_together_whichever_is_asked_for() -> None:
    _, space, _ = studied(Residual)
    place = {g.name: i for i, g in enumerate(space.groups)}
    plans = []
    for name in ("block2.conv1", "block2.conv2"):
        levels = [0] * len(space.groups)
        levels[place[name]] = 100
        plans.append(tuple(levels))
    assert space.key(plans[0]) == space.key(plans[1])
    assert space.kept(plans[0])[place["block2.conv1"]] == space.kept(plans[0])[place["block2.conv2"]] == 0
    assert space.kept(plans[0])[place["block3.conv1"]] == 8


def test_depthwise_channels_are_cut_with_those_before_them() -> None:
    _, space, _ = studied(InvertedResidual)
    expand = next(g for g in space.groups if "first.0" in g.layers)
    assert expand.layers == ("first.0",)
    assert expand.kept == {0: 16, 25: 12, 50: 8, 75: 4, 100: 0}


def test_a_grouped_convolution_loses_whole_groups_with_all_that_they_read_and_make() -> None:
    model, space, ranking = studied(Grouped)
    first, second = space.groups
    assert (first.name, first.layers, first.channels, first.width) == ("conv1", ("conv1", "grouped"), 16, 4)
    assert first.kept == {0: 16, 25: 12, 50: 8, 75: 4}
    assert second.name == "conv2"
    pruned = prune(model, space, (50, 0), ranking, IMAGES)
    assert (pruned.grouped.groups, pruned.grouped.in_channels, pruned.grouped.out_channels) == (2, 8, 8)


def test_a_channel_shuffle_ties_what_it_interleaves() -> None:
    model, space, ranking = studied(Shuffle)
    assert [(g.name, g.channels, g.width) for g in space.groups] == [
        ("conv1", 16, 2),
        ("conv2", 16, 1),
        ("conv3", 8, 1),
    ]
    pruned = prune(model, space, (50, 0, 0), ranking, IMAGES)
    masked = copy.deepcopy(model)
    shuffled = torch.arange(16).view(2, 8).T.flatten()
    gone = torch.isin(shuffled % 8, ranking["conv1"][:4])
    masked.conv2.weight.data[:, gone] = 0
    torch.testing.assert_close(pruned(IMAGES), masked(IMAGES))


class TorchvisionShuffle(nn.Module):
    """As torchvision's shufflenet: chunk, concat, shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.stem(x).chunk(2, 1)
        x = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)
        return self.fc(x.mean((2, 3)))


def test_chunk_and_shuffle_as_in_shufflenet_are_followed() -> None:
    model, space, ranking = studied(TorchvisionShuffle)
    assert [(g.name, g.layers, g.channels) for g in space.groups] == [
        ("stem", ("stem", "branch"), 8), ("stem#2", ("stem",), 8),
    ]  # fmt: skip
    pruned = prune(model, space, (50, 0), ranking, IMAGES)
    assert pruned.stem.out_channels == 4 + 8
    assert (pruned.branch.in_channels, pruned.branch.out_channels) == (8, 4)
    assert pruned.fc.in_features == 8


def test_a_cut_that_fits_in_shape_but_meets_the_wrong_channels_is_refused() -> None:
    _, space, _ = studied(Reversed)
    assert list(named(space)) == ["conv2"]
    why = space.refused["conv1"]  # by how this processor rounds, its trace tells, or only the cut network's answers
    assert "flip mixes its channels" in why or "another network" in why


def test_the_padded_residual_stream_of_a_cifar_resnet_can_be_cut_like_any_other() -> None:
    images = torch.randn(2, 3, 32, 32)
    model = trace(load_model("resnet20", classes=10, channels=3, weights=None), images)
    space = search_space(model, images, step=8)
    inner = [f"layer{s}.{b}.conv1" for s in (1, 2, 3) for b in (0, 1, 2)]
    stream = {"conv1": 16, "layer2.0.conv2": 16, "layer3.0.conv2": 32}  # what a padded shortcut adds has its own group
    assert {g.name: g.channels for g in space.groups if g.name not in inner} == stream
    assert all((100 in g.kept) == (g.name in inner) for g in space.groups)
    assert list(space.refused) == ["linear"]
    halved = prune(model, space, tuple(50 if 50 in g.kept else 0 for g in space.groups), in_order(space), images)
    assert [halved.get_submodule(f"layer{s}.1.conv2").out_channels for s in (1, 2, 3)] == [8, 16, 32]
    deepest = prune(model, space, tuple(max(g.levels) for g in space.groups), in_order(space), images)
    assert not [n for n, m in deepest.named_modules() if isinstance(m, nn.Conv2d) and n != "conv1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvisions_networks_can_be_cut_at_every_level(name: str) -> None:
    images = torch.randn(2, 3, 64, 64)
    model = trace(load_model(name, classes=10, channels=3, weights=None), images)
    space = search_space(model, images, step=8)
    assert len(space.refused) == 1  # the classifier
    ranking = rank(model, space, "l1", dependency_graph(model, images).groups, [])
    generator = torch.Generator().manual_seed(0)
    plans = [
        tuple(max(g.levels) for g in space.groups),
        tuple(max(lv for lv in g.levels if lv < 100) for g in space.groups),
    ]
    for _ in range(2):
        plans.append(tuple(g.levels[int(torch.randint(len(g.levels), (), generator=generator))] for g in space.groups))
    for plan in plans:
        assert prune(model, space, plan, ranking, images)(images).shape == (2, 10)


def test_a_groups_weight_counts_the_layers_that_shrink_with_it() -> None:
    _, space, _ = studied(Chain)
    conv1 = next(g for g in space.groups if g.name == "conv1")
    assert conv1.macs == 3 * 8 * 9 * 64 + 8 * 16 * 9 * 16
    assert conv1.parameters == (3 * 9 + 1) * 8 + (8 * 9 + 1) * 16
    assert space.macs == conv1.macs + 256 * 12 + 12 * 5


class Nested(nn.Module):
    """A block within a block."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.stem, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        inner = torch.relu(self.a(x))
        inner = inner + self.c(torch.relu(self.b(inner)))
        return self.fc((x + inner).mean((2, 3)))


def test_of_nested_blocks_each_can_go_and_the_outer_one_is_decided_first() -> None:
    _, space, _ = studied(Nested)
    assert [(g.name, g.bypass, dict(g.kept)) for g in space.groups if g.bypass] == [
        ("a", "add_1", {0: 8, 100: 0}), ("b", "add", {0: 8, 50: 4, 100: 0}),
    ]  # fmt: skip


def test_a_block_that_holds_a_protected_layer_stays_whole_and_so_do_those_around_it() -> None:
    space = search_space(traced(Nested), IMAGES, step=4, protect=["c"])
    assert not [g.name for g in space.groups if 100 in g.kept]
    assert next(g for g in space.groups if g.name == "b").why_not_whole == (
        "the block around it holds c, which is protected by the settings"
    )


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


def test_a_model_without_anything_to_cut_says_why() -> None:
    with pytest.raises(ModelError, match=r"nothing in this model can be pruned \(fc: it makes the output\)"):
        search_space(traced(Narrow), IMAGES, step=4)


def test_an_illegal_level_is_told_with_its_reason_and_the_legal_ones() -> None:
    model, space, ranking = studied(Chain, step=8)
    with pytest.raises(CutError, match=r"conv2: level 100 .* no way around it; legal levels: 0, 50"):
        prune(model, space, (100, 0), ranking, IMAGES)
    with pytest.raises(CutError, match=r"level 25 .* steps of 8 of its 16 channels it saves nothing more"):
        prune(model, space, (25, 0), ranking, IMAGES)


def test_protected_layers_and_least_widths_are_kept() -> None:
    model = traced(Residual)
    space = search_space(model, IMAGES, step=4, protect=["block2.*"], minimum={"block1.conv1": 6})
    assert not [g.name for g in space.groups if g.name.startswith("block2.")]
    assert space.refused["block2.conv1"] == "protected by the settings"
    assert next(g for g in space.groups if g.name == "block1.conv1").kept == {0: 8, 50: 6, 100: 0}


def test_only_named_layers_change_and_every_other_keeps_its_shape() -> None:
    model = traced(Residual)
    space = search_space(model, IMAGES, step=4, only=["block2.*"])
    assert [g.name for g in space.groups] == ["block2.conv1", "block2.conv2"]
    assert any(100 in g.kept for g in space.groups)  # the block lies within, and goes as a whole
    assert space.refused["stem"] == "not among the layers that may change (pruning: only)"

    deepest = tuple(max(level for level in g.levels if level < 100) for g in space.groups)
    cut = prune(model, space, deepest, in_order(space), IMAGES)
    shapes = {name: value.shape for name, value in cut.state_dict().items()}
    changed = {name for name, value in model.state_dict().items() if shapes[name] != value.shape}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"block2"}


def test_what_a_layer_outside_reads_stays_whole_as_well() -> None:
    space = search_space(traced(Chain), IMAGES, step=4, only=["conv1", "conv2"])
    assert [g.name for g in space.groups] == ["conv1"]
    assert space.refused["conv2"] == "hidden reads it and is not among the layers that may change (pruning: only)"


@pytest.mark.parametrize("setting", ["protect", "only"])
def test_a_pattern_that_fits_no_layer_is_refused_with_the_nearest(setting: str) -> None:
    words = r"no layer of the network is called 'blok2.\*' \(did you mean 'block2.\*'\?\); its layers are "
    with pytest.raises(ConfigError, match=words):
        search_space(traced(Residual), IMAGES, step=4, **{setting: ["blok2.*"]})


def test_what_stays_whole_is_told_with_the_macs_that_it_holds() -> None:
    _, space, _ = studied(Chain)
    assert space.refused_macs == {"fc": 12 * 5}


def test_a_branch_of_a_concatenation_can_go_and_one_of_them_has_to_stay() -> None:
    model, space, ranking = studied(Concat)
    assert {g.name: 100 in g.kept for g in space.groups} == {"left": True, "right": False, "join": False}
    pruned = prune(model, space, (100, 50, 0), ranking, IMAGES)
    assert "left" not in dict(pruned.named_modules())
    assert pruned.join.in_channels == 8
