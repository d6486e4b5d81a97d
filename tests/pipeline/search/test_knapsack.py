from __future__ import annotations

import numpy as np
import pytest
from _common.toys import all_plans, problem
from numpy.typing import NDArray

from pipeline.search.knapsack import knapsack_plans
from pipeline.search.planner import REMOVE, Planner


@pytest.mark.parametrize("blocks", [(1, 2, 0), (2, 0, 2), (0, 0, 0, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("limit", [0.4, 0.7])
def test_where_losses_and_savings_add_up_the_best_plan_is_among_them(blocks: tuple[int, ...], limit: float) -> None:
    told = problem(blocks, limits={"latency": limit})
    planner = Planner(told)
    groups = np.arange(planner.groups)
    loss = planner.gone() ** 1.5 * np.random.default_rng(1).uniform(0.2, 2.0, len(groups))[:, None]
    loss[planner.owner != groups, 4] = 0.0  # a block goes by its first group's level alone
    plans = all_plans(told)
    within = plans[planner.excess(plans) == 0]
    found = knapsack_plans(planner, loss)
    met = found[planner.excess(found) == 0]
    best = loss[groups, within].sum(1).min()
    assert loss[groups, met].sum(1).min() <= best + 0.02


def test_of_blocks_within_blocks_the_best_plan_is_found_too() -> None:
    told = problem((1, 1, 2, 0), within={1: 0, 2: 1}, limits={"latency": 0.6})
    planner, plans = Planner(told), all_plans(told)
    loss = planner.gone() ** 1.5 * np.random.default_rng(1).uniform(0.2, 2.0, planner.groups)[:, None]

    def lost(plans: NDArray[np.int64]) -> NDArray[np.float64]:
        along = (plans == REMOVE) & (plans[:, planner.parent] == REMOVE) & (planner.parent != np.arange(planner.groups))
        return np.where(along, 0.0, loss[np.arange(planner.groups), plans]).sum(1)

    found = knapsack_plans(planner, loss)
    met = found[planner.excess(found) == 0]
    assert {tuple(plan) for plan in found.tolist()} <= {tuple(plan) for plan in plans.tolist()}
    assert lost(met).min() <= lost(plans[planner.excess(plans) == 0]).min() + 0.02


def test_plans_meet_several_targets_at_once_and_other_targets_than_the_problems() -> None:
    told = problem((1, 1, 2), limits={"latency": 0.6, "size": 0.5})
    planner = Planner(told)
    assert planner.can_meet(knapsack_plans(planner, planner.gone())).all()
    tight = {"latency": 0.5, "size": 0.4}
    assert planner.can_meet(knapsack_plans(planner, planner.gone(), tight), tight).all()


def test_nothing_is_cut_where_nothing_is_asked() -> None:
    told = problem((1, 2), limits={})
    planner = Planner(told)
    assert knapsack_plans(planner, planner.gone()).tolist() == [[0, 0, 0]]
