"""Blocks that go: within one another, several beside one shortcut, around concatenations; and what is left of them."""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import CutError
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune, without
from pipeline.pruning.surgery.verify_cut import disproved_blocks
from pipeline.pruning.trace import trace
from pipeline.recipes.recipe import cut_of
from pipeline.records import SearchSpace
from tests.pipeline.pruning.nested import (
    Around,
    Ghost,
    GhostBottleneck,
    GlobalContext,
    NestedResidual,
    OnlyInner,
    Projected,
    RepGhost,
    RepVgg,
    ResidualInception,
    Sum,
)  # fmt: skip
from tests.pipeline.pruning.networks import IMAGES, lively
from tests.pipeline.pruning.oracle import at_random, distinct, require_widths, silenced
from tests.variations import one_in

Blocks = Mapping[str, tuple[str, ...]]
"""A group whose level 100 removes a block → the modules whose answers are zeros then, all of them."""

SUMS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "(x + a) + b": lambda v: (v[0] + v[1]) + v[2],
    "x + (a + b)": lambda v: v[0] + (v[1] + v[2]),
    "(a + b) + x": lambda v: (v[1] + v[2]) + v[0],
    "(a + x) + b": lambda v: (v[1] + v[0]) + v[2],
    "a += x; a += b": lambda v: operator.iadd(operator.iadd(v[1], v[0]), v[2]),
    "torch.add": lambda v: torch.add(torch.add(v[0], v[1]), other=v[2]),
    "sum()": sum,
    "stack": lambda v: torch.stack(v).sum(0),
    "stack, by dim": lambda v: torch.sum(torch.stack(v, dim=0), dim=[0]),
}
ONE_BY_ONE: Blocks = {f"branches.{i}.0.0": (f"branches.{i}",) for i in (0, 1)}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Blocks]] = {
    **{name: (lambda add=add: Sum(add), ONE_BY_ONE) for name, add in SUMS.items()},
    "of four": (lambda: Sum(sum, 3), {f"branches.{i}.0.0": (f"branches.{i}",) for i in range(3)}),
    "nested": (NestedResidual, {"before.0": ("after",), "inner.0.0": ("inner",)}),
    "nested twice": (lambda: NestedResidual(3), {
        "before.0": ("after",), "inner.before.0": ("inner.after",), "inner.inner.before.0": ("inner.inner.after",),
        "inner.inner.inner.0.0": ("inner.inner.inner",),
    }),
    "only inner channels": (OnlyInner, {"last.0": ("last",), "inner.0.0": ("inner",)}),
    "projected": (Projected, {"first.0": ("last",), "inner.0.0": ("inner",)}),
    "inception": (ResidualInception, {"deep.0.0": ("join",), "left.0": ("left",), "right.0.0": ("right",)}),
    "ghost": (lambda: GhostBottleneck(Ghost), {"first.primary.0": ("last",)}),
    "ghost, projected": (lambda: GhostBottleneck(Ghost, 12), {"first.primary.0": ("last",)}),
    "rep ghost": (lambda: GhostBottleneck(RepGhost), {
        "first.primary.0": ("last",), "first.cheap.0": ("first.cheap",), "last.cheap.0": ("last.cheap",),
    }),
    "global context": (GlobalContext, {"mlp.0": ("mlp",)}),
    "rep vgg": (RepVgg, {"three.0": ("three",), "one.0": ("one",)}),
    "nothing but branches": (lambda: Sum(lambda v: v[1] + v[2]), {"branches.1.0.0": ("branches.1",)}),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, fx.GraphModule, SearchSpace, Blocks]:
    """A network with random weights, its graph, its search space, and its blocks with the names in it."""
    model, graph, space, named = _built(name)
    return model, copy.deepcopy(graph), space, named


@functools.cache
def _built(name: str) -> tuple[nn.Module, fx.GraphModule, SearchSpace, Blocks]:
    kind, blocks = NETWORKS[name]
    torch.manual_seed(0)
    model = Around(kind())
    model(IMAGES)
    model = lively(model.eval())
    graph = trace(model, IMAGES)
    named = {f"middle.{group}": tuple(f"middle.{m}" for m in modules) for group, modules in blocks.items()}
    return model, graph, search_space(graph, IMAGES, step=4), named


def quiet(model: nn.Module, modules: list[str]) -> Tensor:
    """The answers of a network in which some modules answer zeros."""
    copied = copy.deepcopy(model)
    for name in modules:
        copied.get_submodule(name).register_forward_hook(lambda *told: torch.zeros_like(told[2]))
    return copied(IMAGES)


@pytest.mark.parametrize("name", one_in(3, NETWORKS))
def test_every_branch_can_go_and_leaves_the_network_in_which_it_answers_zeros(name: str) -> None:
    model, graph, space, blocks = built(name)
    firsts = {g.bypass: g.name for g in reversed(space.groups) if g.bypass}
    assert set(firsts.values()) == set(blocks)
    for some in itertools.chain.from_iterable(itertools.combinations(blocks, n) for n in range(1, len(blocks) + 1)):
        levels = tuple(100 if group.name in some else 0 for group in space.groups)
        pruned = prune(graph, space, levels, at_random(space), IMAGES)
        expected = quiet(model, [module for group in some for module in blocks[group]])
        torch.testing.assert_close(pruned(IMAGES), expected, rtol=1e-5, atol=1e-5)
        left = dict(pruned.named_modules())
        assert not [layer for group in some for layer in space.blocks[_bypass(space, group)] if layer in left]


def _bypass(space: SearchSpace, name: str) -> str:
    return next(group.bypass for group in space.groups if group.name == name) or ""


@pytest.mark.parametrize("name", one_in(2, NETWORKS))
def test_plans_of_all_levels_give_the_network_that_ignores_what_went(name: str) -> None:
    kind, _ = NETWORKS[name]
    torch.manual_seed(0)
    model = Around(kind())
    model(IMAGES)
    graph = trace(distinct(model.eval()), IMAGES)
    space = search_space(graph, IMAGES, step=2)
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        levels = tuple(g.levels[int(torch.randint(len(g.levels), (), generator=draw))] for g in space.groups)
        pruned = prune(graph, space, levels, at_random(space), IMAGES)
        require_widths(graph, pruned, space, levels, IMAGES)
        torch.testing.assert_close(pruned(IMAGES), silenced(graph, pruned)(IMAGES), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["nested twice", "inception", "rep ghost", "(x + a) + b", "projected"])
def test_the_same_network_comes_of_every_plan_that_means_it_and_other_groups_are_cut_as_they_are_told(
    name: str,
) -> None:
    _, graph, space, _ = built(name)
    outer = next(i for i, g in enumerate(space.groups) if g.bypass)
    taken = [i for i, g in enumerate(space.groups) if g.bypass in space.inside(space.groups[outer].bypass or "")]
    levels = [next((lv for lv in (50, 25) if lv in g.kept), 0) for g in space.groups]
    levels[outer] = 100
    plans = [tuple(levels), tuple(100 if i in taken else level for i, level in enumerate(levels))]
    first, second = (prune(graph, space, plan, at_random(space), IMAGES) for plan in plans)
    assert space.key(plans[0]) == space.key(plans[1])
    assert first.code == second.code
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    stem = next(g for g in space.groups if g.name == "stem.0")
    assert first.get_submodule("stem.0").out_channels == stem.kept[50] == 4


def test_a_recipe_says_of_what_went_with_a_block_around_it_that_it_is_gone() -> None:
    _, graph, space, _ = built("nested")
    levels = tuple(100 if g.name == "middle.before.0" else 0 for g in space.groups)
    cut = cut_of(space, levels, at_random(space), "l1", {})
    assert {g.name: (g.level, len(g.kept)) for g in cut.groups} == {
        "stem.0": (0, 8), "middle.before.0": (100, 0), "middle.inner.0.0": (100, 0),
    }  # fmt: skip
    again = without(graph, {}, cut.removed_blocks, IMAGES)
    torch.testing.assert_close(again(IMAGES), prune(graph, space, levels, at_random(space), IMAGES)(IMAGES))


def test_a_recipe_of_an_earlier_version_may_remove_all_branches_of_an_inner_sum_by_its_name() -> None:
    model, graph, space, _ = built("x + (a + b)")
    assert "add_1" not in space.blocks
    units = {g.name: torch.arange(g.units) for g in space.groups if g.bypass}
    pruned = without(graph, units, ["add_1"], IMAGES)
    expected = quiet(model, ["middle.branches.0", "middle.branches.1"])
    torch.testing.assert_close(pruned(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_a_block_that_is_not_what_it_is_taken_for_is_found_out_and_stays() -> None:
    _, graph, _, _ = built("nested")
    known = dependency_graph(graph, IMAGES)
    inner, outer = sorted(known.blocks, key=lambda block: len(block.layers))
    assert disproved_blocks(graph, IMAGES) == {}
    wrong = replace(inner, place=1 - (inner.place or 0))  # it would take the shortcut away, and leave the branch
    graph.meta["coupling"] = replace(known, blocks=(wrong, outer))
    assert list(disproved_blocks(graph, IMAGES)) == [inner.name]
    space = search_space(graph, IMAGES, step=4)
    assert list(space.blocks) == [outer.name]
    assert {g.name for g in space.groups if 100 in g.kept} == {"middle.before.0", "middle.inner.0.0"}


class Weighted(nn.Module):
    """Sums of which a part cannot go: one that counts twice, one that is scaled, the stem of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 8, 8, 8))
        self.stem, self.a = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + self.position
        x = torch.add(x, self.a(x), alpha=-1)
        return self.fc((x - self.a(x)).mean((2, 3)))


def test_what_is_no_plain_sum_is_left_alone_and_the_image_is_never_cut_off() -> None:
    graph = trace(Weighted().eval(), IMAGES)
    assert dependency_graph(graph, IMAGES).blocks == ()
    assert not [g.name for g in search_space(graph, IMAGES, step=4).groups if 100 in g.kept]


def test_a_branch_whose_layers_are_used_again_keeps_these() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.own = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.shared(x))
            return x + self.own(torch.relu(self.shared(x)))

    model = lively(Around(Twice()).eval())
    model(IMAGES)
    graph = trace(model, IMAGES)
    space = search_space(graph, IMAGES, step=4)
    assert set(space.blocks.values()) == {("middle.own",)}
    levels = tuple(100 if g.bypass else 0 for g in space.groups)
    pruned = prune(graph, space, levels, at_random(space), IMAGES)
    torch.testing.assert_close(pruned(IMAGES), quiet(model, ["middle.own"]), rtol=1e-5, atol=1e-5)


def test_a_plan_cannot_remove_what_nothing_leads_around() -> None:
    _, graph, space, _ = built("nothing but branches")
    levels = tuple(100 if g.name == "middle.branches.0.0.0" else 0 for g in space.groups)
    with pytest.raises(CutError, match="there is no way around it"):
        prune(graph, space, levels, at_random(space), IMAGES)
