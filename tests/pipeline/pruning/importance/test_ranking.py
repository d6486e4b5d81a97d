from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline import plugins
from pipeline.config import CriterionConfig, load_config
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.pruning.dependency.channel_sets import Coupled, Slice
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.surgery.prune import Ranking
from pipeline.pruning.trace import trace
from pipeline.records import Group, SearchSpace
from tests.pipeline.pruning.networks import (
    IMAGES,
    Chain,
    Concat,
    Grouped,
    InvertedResidual,
    Residual,
    Shuffle,
    studied,
    traced,
)
from tests.variations import one_in, variations

LABELS = torch.tensor([0, 1, 2, 3])
BATCHES = [(IMAGES, LABELS), (IMAGES.flip(3), LABELS)]
OF_IMAGES = ("feature_map", "mean_activation", "taylor")
OF_WEIGHTS = ("bn_scale", "fpgm", "l1", "l2", "random")


def ranked(model: fx.GraphModule, space: SearchSpace, criterion: str, batches=BATCHES, **settings) -> Ranking:
    return rank(model, space, criterion, dependency_graph(model, IMAGES).groups, batches, **settings)


@cache
def shared(kind: type[nn.Module]) -> tuple[fx.GraphModule, SearchSpace]:
    """A network for tests that leave it as it is."""
    model, space, _ = studied(kind)
    return model, space


class Tiny(nn.Module):
    """1 × 1 convolutions whose weights are given, so that scores can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.fc = nn.Linear(2, 4)
        self.conv1.weight.data = torch.tensor([3.0, -1.0, 2.0, -4.0])[:, None, None, None].repeat(1, 3, 1, 1) / 3
        self.conv2.weight.data = torch.tensor([[2.0, 1.0, -1.0, 0.0], [2.0, 1.0, 1.0, 0.0]])[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(torch.relu(self.conv1(x))).mean((2, 3)))


def tiny(first: Tensor | None = None, second: Tensor | None = None) -> tuple[fx.GraphModule, SearchSpace]:
    model = Tiny()
    model.conv1.weight.data = model.conv1.weight.data if first is None else first
    model.conv2.weight.data = model.conv2.weight.data if second is None else second
    return trace(model, IMAGES), space_of("conv1")


def space_of(*names: str) -> SearchSpace:
    groups = tuple(Group(name=n, layers=(n,), channels=4, kept={0: 4}, macs=1, parameters=1) for n in names)
    return SearchSpace(groups=groups, refused={}, macs=1, parameters=1, step=1)


def test_every_criterion_is_among_these() -> None:
    assert sorted(OF_IMAGES + OF_WEIGHTS) == plugins.names("pipeline.pruning.criteria")


def test_units_are_ordered_from_the_least_important() -> None:
    model, space = tiny()
    assert ranked(model, space, "l1")["conv1"].tolist() == [1, 2, 3, 0]  # 3.5, 1.5, 2, 2: a tie
    assert ranked(model, space, "l2")["conv1"].tolist() == [1, 2, 3, 0]
    assert ranked(model, space, "fpgm")["conv1"].tolist() == [1, 2, 0, 3]  # 12, 10, 10 and 16 to the others


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CriterionConfig(reduction="max"), [1, 2, 0, 3]),  # 4, 2, 2, 4
        (CriterionConfig(reduction="sum"), [1, 2, 3, 0]),
        (CriterionConfig(normalise="mean"), [1, 3, 2, 0]),  # over 2.5 and 2: 3.2, 1.4, 1.8, 1.6
        (CriterionConfig(normalise="max"), [1, 2, 3, 0]),  # over 4 and 4
    ],
)
def test_options_say_how_layers_become_one_score(options: CriterionConfig, expected: list[int]) -> None:
    model, space = tiny()
    assert ranked(model, space, "l1", options=options)["conv1"].tolist() == expected


def test_a_normalised_small_layer_has_as_much_say_as_a_large_one() -> None:
    second = torch.tensor([0.01, 0.04, 0.03, 0.02])[None, :, None, None].repeat(2, 1, 1, 1)
    model, space = tiny(second=second)
    assert ranked(model, space, "l1")["conv1"].tolist() == [1, 2, 0, 3]
    for by in ("mean", "max", "sum"):
        options = CriterionConfig(normalise=by)
        # Shares of .3, .1, .2, .4 and of .1, .4, .3, .2 add up to .4, .5, .5, .6.
        found = ranked(model, space, "l1", options=options)["conv1"].tolist()
        assert found == [0, 1, 2, 3], by


@pytest.mark.parametrize("criterion", OF_IMAGES + OF_WEIGHTS)
def test_every_criterion_orders_every_unit_once_and_the_same_seed_the_same_way(criterion: str) -> None:
    for kind in (Chain, Residual, Concat, InvertedResidual, Grouped, Shuffle):
        model, space = shared(kind)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        generator = torch.get_rng_state()
        first = ranked(model, space, criterion, seed=3)
        assert torch.equal(torch.get_rng_state(), generator)
        torch.rand(7)
        again = ranked(model, space, criterion, iter(BATCHES), seed=3)
        assert list(first) == [group.name for group in space.groups]
        for group in space.groups:
            assert sorted(first[group.name].tolist()) == list(range(group.units))
            assert torch.equal(first[group.name], again[group.name])
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("criterion", one_in(4, OF_IMAGES + OF_WEIGHTS))
def test_one_thread_and_two_give_the_same_order(criterion: str) -> None:
    model, space, _ = studied(Residual)
    before, orders = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            orders.append(ranked(model, space, criterion))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(orders[0][name], orders[1][name]) for name in orders[0])


@pytest.mark.parametrize("criterion", OF_IMAGES + OF_WEIGHTS)
def test_images_are_read_once_and_only_by_criteria_that_need_them(criterion: str) -> None:
    model, space, _ = studied(Residual)
    read = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in BATCHES:
            read.append(len(batch[1]))
            yield batch

    ranked(model, space, criterion, batches())
    assert read == ([4, 4] if criterion in OF_IMAGES else [])


@pytest.mark.parametrize("criterion", OF_IMAGES)
def test_a_network_in_training_mode_is_looked_at_in_eval_mode_and_left_in_training_mode(criterion: str) -> None:
    model, space, _ = studied(Residual)
    settled = ranked(model, space, criterion)
    statistics = model.get_buffer("block1.bn1.running_mean").clone()
    model.train()
    model.get_submodule("block1.bn1").eval()
    found = ranked(model, space, criterion)
    assert all(torch.equal(found[name], settled[name]) for name in settled)
    assert torch.equal(model.get_buffer("block1.bn1.running_mean"), statistics)
    assert model.get_submodule("block1.bn2").training
    assert not model.get_submodule("block1.bn1").training


def test_random_orders_differ_by_seed_and_by_group() -> None:
    model, space, _ = studied(Residual)
    one, other = (ranked(model, space, "random", seed=seed) for seed in (1, 2))
    assert one["stem"].tolist() != other["stem"].tolist()
    assert one["block2.conv1"].tolist() != one["block3.conv1"].tolist()


def test_a_random_order_does_not_hang_on_the_other_groups() -> None:
    model, space, _ = studied(Residual)
    alone = replace(space, groups=space.groups[-1:])
    name = alone.groups[0].name
    assert torch.equal(ranked(model, alone, "random", seed=5)[name], ranked(model, space, "random", seed=5)[name])


def test_a_random_order_is_the_same_on_every_machine() -> None:
    model = traced(Chain)
    assert ranked(model, space_of("conv1"), "random", seed=7)["conv1"].tolist() == [5, 6, 3, 4, 2, 1, 7, 0]


@pytest.mark.parametrize("criterion", [c for c in OF_IMAGES + OF_WEIGHTS if c != "random"])
def test_units_that_are_all_alike_keep_their_index_order(criterion: str) -> None:
    model, space = tiny(torch.full((4, 3, 1, 1), 0.37), torch.full((2, 4, 1, 1), 0.21))
    model.get_submodule("conv1").bias.data.fill_(0.1)
    assert ranked(model, space, criterion)["conv1"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("criterion", [c for c in OF_IMAGES + OF_WEIGHTS if c not in ("random", "fpgm")])
@pytest.mark.parametrize("options", [CriterionConfig(), CriterionConfig(normalise="mean", reduction="max")])
def test_a_unit_of_zeros_goes_first(criterion: str, options: CriterionConfig) -> None:
    model, space = tiny()
    model.get_submodule("conv1").weight.data[3] = 0
    model.get_submodule("conv1").bias.data[:] = torch.tensor([0.1, 0.2, 0.3, 0.0])
    model.get_submodule("conv2").weight.data[:, 3] = 0
    assert ranked(model, space, criterion, options=options)["conv1"][0] == 3


@pytest.mark.parametrize("criterion", OF_IMAGES + OF_WEIGHTS)
@pytest.mark.parametrize("by", variations(["none", "mean", "max", "sum"], ["mean"]))
def test_a_layer_of_zeros_leaves_the_index_order(criterion: str, by: str) -> None:
    model, space = tiny(torch.zeros(4, 3, 1, 1), torch.zeros(2, 4, 1, 1))
    model.get_submodule("conv1").bias.data.zero_()
    found = ranked(model, space, criterion, options=CriterionConfig(normalise=by))["conv1"].tolist()
    assert sorted(found) == [0, 1, 2, 3]
    assert found == [0, 1, 2, 3] or criterion == "random"


@pytest.mark.parametrize("criterion", OF_IMAGES + OF_WEIGHTS)
def test_a_group_of_one_unit_has_one_order(criterion: str) -> None:
    model, space = tiny()
    index = torch.zeros(1, dtype=torch.int64)
    parts = (("conv1.weight", 0, "makes"), ("conv1.bias", 0, "makes"), ("conv2.weight", 1, "reads"))
    one = Coupled("conv1", 1, tuple(Slice(tensor, axis, role, index + 2, index) for tensor, axis, role in parts))
    assert rank(model, space, criterion, {"conv1": one}, BATCHES)["conv1"].tolist() == [0]


def test_positions_of_a_unit_count_together() -> None:
    model, space = tiny()
    every, pairs = torch.arange(4), torch.tensor([0, 1, 0, 1])
    two = Coupled("conv1", 2, (Slice("conv1.weight", 0, "makes", every, pairs),))
    assert rank(model, space, "l1", {"conv1": two}, [])["conv1"].tolist() == [0, 1]  # 3 + 2, 1 + 4: a tie
    model.get_submodule("conv1").weight.data[0] = 5
    assert rank(model, space, "l1", {"conv1": two}, [])["conv1"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "criterion", one_in(3, OF_IMAGES + tuple(c for c in OF_WEIGHTS if c not in ("random", "bn_scale")))
)
def test_weights_that_are_not_numbers_are_named(criterion: str) -> None:
    model, space, _ = studied(Residual)
    model.get_submodule("stem").weight.data[2, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"stem\.weight: 1 of 216 values are NaN or infinite, .*; look whether"):
        ranked(model, space, criterion)


@pytest.mark.parametrize("criterion", OF_IMAGES)
def test_images_that_are_not_numbers_are_found_by_what_they_spoil(criterion: str) -> None:
    model, space, _ = studied(Residual)
    broken = IMAGES.clone()
    broken[1, 0, 0, 0] = float("inf")
    with pytest.raises(ModelError, match=r"(the gradient of \S+: \d+ of \d+ values are|maps at relu hold) NaN"):
        ranked(model, space, criterion, [(broken, LABELS)])


@pytest.mark.parametrize("criterion", OF_IMAGES)
def test_statistics_that_are_not_numbers_are_named(criterion: str) -> None:
    model, space, _ = studied(Residual)
    model.get_submodule("block1.bn1").running_var.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"block1\.bn1\.running_var: 1 of 8 values are NaN"):
        ranked(model, space, criterion)


@pytest.mark.parametrize("criterion", OF_IMAGES)
@pytest.mark.parametrize("batches", [[], [(IMAGES[:0], LABELS[:0])]])
def test_without_a_single_image_a_criterion_that_needs_them_says_so(criterion: str, batches) -> None:
    model, space, _ = studied(Chain)
    with pytest.raises(DataError, match=r"needs images, and there are none left to read: .* such as l1"):
        ranked(model, space, criterion, batches)


def test_a_class_without_an_image_is_no_hindrance() -> None:
    model, space, _ = studied(Chain)
    assert sorted(ranked(model, space, "taylor", [(IMAGES, torch.zeros(4, dtype=torch.int64))])["conv1"].tolist()) == [
        *range(8)
    ]


@pytest.mark.parametrize("strange", [5, -1])
def test_a_label_that_the_network_does_not_know_is_an_error(strange: int) -> None:
    model, space, _ = studied(Chain)
    with pytest.raises(DataError, match=rf"label {strange}, and the network knows classes 0 to 4"):
        ranked(model, space, "taylor", [(IMAGES, torch.tensor([0, 1, strange, 2]))])


def test_a_group_without_a_weight_that_a_criterion_counts_is_an_error() -> None:
    model, space = tiny()
    index = torch.arange(4)
    reads = Coupled("conv1", 4, (Slice("conv2.weight", 1, "reads", index, index),))
    with pytest.raises(ModelError, match="conv1: taylor finds no weights to score in this group; try l1 or random"):
        rank(model, space, "taylor", {"conv1": reads}, BATCHES)


def test_an_unknown_criterion_names_the_nearest() -> None:
    model, space, _ = studied(Concat)
    with pytest.raises(ConfigError, match=r"'tailor'.*\(did you mean 'taylor'\?\)"):
        ranked(model, space, "tailor")


def test_options_stand_beside_the_plain_name(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("criterion: taylor\n")
    assert load_config(path, {}).criterion_options == CriterionConfig(reduction="mean", normalise="none")
    path.write_text("criterion: taylor\ncriterion_options: {reduction: max, normalise: none}\n")
    found = load_config(path, {"criterion": "fpgm"})
    assert (found.criterion, found.criterion_options) == ("fpgm", CriterionConfig(reduction="max"))
    path.write_text("criterion_options:\n  reduction: median\n")
    with pytest.raises(ConfigError, match=r"run.yaml:2: criterion_options.reduction: should be 'mean', 'sum' or 'max'"):
        load_config(path, {})
    path.write_text("criterion_options: {normalize: mean}\n")
    with pytest.raises(ConfigError, match=r"normalize: unknown key \(did you mean 'normalise'\?\)"):
        load_config(path, {})
