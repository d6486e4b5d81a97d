"""Groups that shrink the same layers: costs as a network's MACs make them, predicted from single cuts alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pipeline.predictors.cost_model import CostTable, owners
from pipeline.predictors.layer_costs import Shrinking
from pipeline.pruning.complexity import weigh
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.records import LEVELS, SearchSpace
from pipeline.search.reachability import Reach
from tests.pipeline.pruning.networks import IMAGES, Chain, Concat, Residual, in_order, traced

MACS = dict[tuple[int, ...], float]


def weighed(kind: type[torch.nn.Module], step: int) -> tuple[SearchSpace, MACS]:
    """What can be cut in a network, and the MACs of every plan over the base's."""
    model = traced(kind)
    space = search_space(model, IMAGES, step=step)
    found = {}
    for levels in itertools.product(*(group.levels for group in space.groups)):
        found[levels] = weigh(prune(model, space, levels, in_order(space), IMAGES), IMAGES).macs / space.macs
    return space, found


def savings(space: SearchSpace, macs: MACS) -> np.ndarray:
    """What each group saves alone at each level; a block by its first group."""
    table = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        for level in group.levels:
            table[i, LEVELS.index(level)] = 1 - macs[tuple(level if j == i else 0 for j in range(len(space.groups)))]
    table[owners(space) != np.arange(len(space.groups)), -1] = 0.0
    return table


def indices(levels: tuple[int, ...]) -> list[int]:
    return [LEVELS.index(level) for level in levels]


@pytest.fixture(scope="module", params=[(Chain, 4), (Concat, 4)], ids=["chain", "concat"])
def world(request: pytest.FixtureRequest) -> tuple[SearchSpace, MACS]:
    return weighed(*request.param)


def test_single_cuts_are_predicted_as_they_were_measured(world: tuple[SearchSpace, MACS]) -> None:
    space, macs = world
    table = CostTable(savings(space, macs), owners(space), Shrinking.of(space))
    for levels, cost in macs.items():
        if sum(level > 0 for level in levels) == 1:
            assert table.predict(np.array([indices(levels)]))[0] == pytest.approx(cost)


def test_plans_whose_groups_share_layers_are_predicted_far_nearer_than_by_adding_up(
    world: tuple[SearchSpace, MACS],
) -> None:
    space, macs = world
    shared = CostTable(savings(space, macs), owners(space), Shrinking.of(space))
    apart = CostTable(savings(space, macs), owners(space))
    plans, costs = np.array([indices(levels) for levels in macs]), np.array(list(macs.values()))
    error, added_up = (float(np.sqrt(np.mean((t.predict(plans) - costs) ** 2))) for t in (shared, apart))
    assert error < 0.01
    assert error < added_up / 4


def test_what_is_within_reach_is_what_the_cheapest_plan_that_goes_on_like_this_costs(
    world: tuple[SearchSpace, MACS],
) -> None:
    space, macs = world
    table = CostTable(savings(space, macs), owners(space), Shrinking.of(space))
    plans = np.array([indices(levels) for levels in macs])
    predicted, reach = table.predict(plans), Reach(table)
    for step in range(len(space.groups)):
        for begun in {tuple(plan[:step]) for plan in plans.tolist()}:
            levels = np.zeros((1, len(space.groups)), dtype=np.int64)
            levels[0, :step] = begun
            lowest = reach.lowest(levels, step)[0]
            for level in {plan[step] for plan in plans.tolist()}:
                goes_on = (plans[:, :step] == begun).all(1) & (plans[:, step] == level)
                if goes_on.any():
                    assert lowest[level] == pytest.approx(predicted[goes_on].min(), abs=0.02)
                    assert lowest[level] <= predicted[goes_on].min() + 1e-9


def test_a_block_of_two_groups_goes_once() -> None:
    space = search_space(traced(Residual), IMAGES, step=4)
    owner = owners(space)
    table = np.array([[0, np.nan, 0.1, 0.15, 0.3 if 100 in g.kept else np.nan] for g in space.groups])
    table[owner != np.arange(len(owner)), -1] = 0.0
    costs = CostTable(table, owner, Shrinking.of(space))
    first = next(i for i, g in enumerate(space.groups) if 100 in g.kept)
    plans = np.zeros((2, len(owner)), dtype=np.int64)
    plans[0, first] = plans[1, first] = plans[1, first + 1] = LEVELS.index(100)
    assert costs.predict(plans).tolist() == pytest.approx([0.7, 0.7])
