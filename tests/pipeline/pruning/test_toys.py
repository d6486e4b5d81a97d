"""Each awkward toy, cut by every level: it runs, it is as wide as planned, and it is the right network."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import fx, nn

from pipeline.errors import CutError, ModelError
from pipeline.export.onnx.exporter import export
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, SearchSpace
from tests.pipeline.pruning.networks import IMAGES
from tests.pipeline.pruning.oracle import at_random, distinct, plan, require_widths, silenced, survivors
from tests.pipeline.pruning.toys import TOYS, PaddedShortcut, Residual, ShuffleOfLiterals, ShuffleOfSizes, Squeezed
from tests.variations import variations

SUPPORT = OnnxSupport(17, 8)
STEP = 2


def build(kind: type[nn.Module]) -> tuple[fx.GraphModule, SearchSpace]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = trace(distinct(kind()), IMAGES)
    return network, search_space(network, IMAGES, step=STEP)


@pytest.fixture(scope="module", params=TOYS, ids=lambda kind: kind.__name__)
def toy(request: pytest.FixtureRequest) -> tuple[type[nn.Module], fx.GraphModule, SearchSpace]:
    return request.param, *build(request.param)


Toy = tuple[type[nn.Module], fx.GraphModule, SearchSpace]


def test_what_has_to_be_prunable_is_and_what_has_to_be_refused_is_with_a_reason(toy: Toy) -> None:
    kind, _, space = toy
    cuttable = {layer for group in space.groups for layer in group.layers}
    assert not set(kind.PRUNABLE) - cuttable, dict(space.refused)
    assert not set(kind.REFUSED) & cuttable
    assert all(space.refused[layer].strip() for layer in kind.REFUSED)


@pytest.mark.parametrize("levels", ["25", "50", "75", "mixed", "100"])
def test_a_cut_toy_is_as_wide_as_planned_and_the_right_network(toy: Toy, levels: str) -> None:
    kind, base, space = toy
    wanted = plan(space, levels)
    pruned = prune(base, space, wanted, at_random(space), IMAGES)
    require_widths(base, pruned, space, wanted, IMAGES)
    with torch.no_grad():
        answers, expected = pruned(IMAGES), silenced(base, pruned)(IMAGES)
    assert answers.isfinite().all()
    assert answers.shape == expected.shape
    if kind.EXACT:
        torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-5)
    assert any(wanted) == (not torch.allclose(answers, base(IMAGES)))


@pytest.mark.parametrize("levels", variations(["75", "100"], ["100"]))
def test_a_cut_toy_trains_is_saved_and_is_exported(toy: Toy, levels: str) -> None:
    _, base, space = toy
    pruned = prune(base, space, plan(space, levels), at_random(space), IMAGES)
    pruned(IMAGES).square().sum().backward()
    assert [name for name, p in pruned.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    restored = copy.deepcopy(pruned)
    for tensor in restored.state_dict().values():
        tensor.zero_()
    restored.load_state_dict(load(save({name: tensor.clone() for name, tensor in pruned.state_dict().items()})))
    torch.testing.assert_close(restored(IMAGES), pruned(IMAGES))

    export(pruned, IMAGES, SUPPORT)  # compares the file's answers with the network's


def test_a_cut_that_fits_in_shape_but_meets_the_wrong_channels_would_be_found() -> None:
    base, space = build(Squeezed)
    crossed = prune(base, space, plan(space, "50"), at_random(space), IMAGES)
    whole = dict(base.named_parameters())
    left = survivors(whole["hidden.weight"], crossed.hidden.weight.detach())[1]
    others = torch.tensor([i for i in range(16) if i not in left])
    for name, tensor in crossed.first.named_parameters():
        tensor.data = whole[f"first.{name}"].data[others]
    with torch.no_grad():
        assert not torch.allclose(crossed(IMAGES), silenced(base, crossed)(IMAGES), rtol=1e-2)

    crossed.hidden.weight.data = crossed.hidden.weight.data.flip(1)
    with pytest.raises(AssertionError, match="crosswise or reordered"):
        silenced(base, crossed)


# Four ways in which torch-pruning gives a wrong network, or nothing, without a word.


def test_the_stream_of_a_padded_shortcut_is_cut_on_both_sides_of_the_padding() -> None:
    base, space = build(PaddedShortcut)
    levels = tuple(50 if group.name == "first" else 0 for group in space.groups)
    pruned = prune(base, space, levels, at_random(space), IMAGES)
    assert (pruned.first.out_channels, pruned.outer.out_channels, pruned.last.in_channels) == (4, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(pruned(IMAGES), silenced(base, pruned)(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ShuffleOfLiterals, ShuffleOfSizes])
def test_a_channel_shuffle_is_cut_so_that_the_shuffle_still_fits(kind: type[nn.Module]) -> None:
    base, space = build(kind)
    assert any("first" in group.layers for group in space.groups)
    pruned = prune(base, space, plan(space, "50"), at_random(space), IMAGES)
    assert pruned.first.out_channels == pruned.last.in_channels == 8


def test_widths_round_up_to_the_step_and_what_is_narrower_than_it_is_refused_by_name() -> None:
    base, _ = build(Squeezed)
    space = search_space(base, IMAGES, step=8)
    kept = {group.name: dict(group.kept) for group in space.groups}
    assert kept == {"first": {0: 16, 50: 8}, "hidden": {0: 12, 50: 8}}
    assert "8 channels are no more than this device computes at once (8)" in space.refused["last"]
    with pytest.raises(ModelError, match="nothing in this model can be pruned"):
        search_space(base, IMAGES, step=32)


def test_all_of_a_layers_channels_go_with_its_block_or_not_at_all() -> None:
    base, space = build(Residual)
    levels = tuple(100 if group.name == "a" else 0 for group in space.groups)
    gone = prune(base, space, levels, at_random(space), IMAGES).state_dict()
    assert not [name for name in gone if name.startswith(("a.", "b.", "norms.0"))]
    for i, group in enumerate(space.groups):
        if 100 not in group.kept:
            levels = tuple(100 if i == j else 0 for j in range(len(space.groups)))
            with pytest.raises(CutError, match=f"{group.name}: level 100 is not legal here"):
                prune(base, space, levels, at_random(space), IMAGES)
