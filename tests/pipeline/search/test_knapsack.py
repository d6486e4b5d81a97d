from __future__ import annotations

import numpy as np
import pytest

from pipeline.search.knapsack import knapsack_plans
from pipeline.search.planning import Planner
from tests.pipeline.search.toys import all_plans, problem


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


def test_plans_meet_several_targets_at_once_and_other_targets_than_the_problems() -> None:
    told = problem((1, 1, 2), limits={"latency": 0.6, "size": 0.5})
    planner = Planner(told)
    assert planner.excess(knapsack_plans(planner, planner.gone())).max() == 0
    tight = {"latency": 0.5, "size": 0.4}
    assert planner.excess(knapsack_plans(planner, planner.gone(), tight), tight).max() == 0


def test_nothing_is_cut_where_nothing_is_asked() -> None:
    told = problem((1, 2), limits={})
    planner = Planner(told)
    assert knapsack_plans(planner, planner.gone()).tolist() == [[0, 0, 0]]
