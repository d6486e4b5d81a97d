"""What candidates teach a cost table: departures that no line describes, and how sure its predictions are."""

from __future__ import annotations

import numpy as np
import pytest
from _common.toys import all_plans, problem

from pipeline.predictors.cost_model import CostTable
from pipeline.predictors.error_scaling import Surprise
from pipeline.search.reachability import Reach

NOISE = 0.01


def world(seed: int) -> tuple[CostTable, np.ndarray, np.ndarray]:
    """A table from single cuts, plans, and what they measure: a constant part stays, and some pairs save less."""
    told = problem((1,) * 6, seed=seed)
    table, rng = told.costs.tables["latency"], np.random.default_rng(seed)
    plans = rng.permutation(all_plans(told))[:240]
    depth = plans / 4
    pairs = 0.10 * depth[:, 0] * depth[:, 1] + 0.08 * depth[:, 2] * depth[:, 4]
    true = 0.1 + 0.9 * table.predict(plans) + pairs
    return table, plans, true * (1 + rng.normal(0, NOISE, len(plans)))


def test_with_candidates_predictions_come_nearer_than_by_the_best_line() -> None:
    table, plans, measured = world(0)
    for plan, cost in zip(plans[:60].tolist(), measured[:60], strict=True):
        table.learn(plan, cost)
    held, true = plans[60:], measured[60:]
    by_line = np.abs(table.cost(table.taken(held)) / true - 1).mean()
    error = np.abs(table.predict(held) / true - 1).mean()
    assert error < 0.75 * by_line
    assert error < 0.03


@pytest.mark.parametrize("known", [10, 30])
def test_intervals_hold_what_held_out_plans_measure(known: int) -> None:
    held = []
    for seed in range(4):
        table, plans, measured = world(seed)
        for plan, cost in zip(plans[:known].tolist(), measured[:known], strict=True):
            table.learn(plan, cost)
        low, high = table.interval(plans[known:])
        held.append(np.mean((low <= measured[known:]) & (measured[known:] <= high)))
    assert 0.90 <= np.mean(held) <= 0.99


def test_intervals_widen_by_how_far_the_candidates_before_were_off_and_narrow_no_further_than_they_were() -> None:
    table, plans, measured = world(0)
    rng = np.random.default_rng(0)
    for index, (plan, cost) in enumerate(zip(plans[:40].tolist(), measured[:40], strict=True)):
        table.learn(plan, cost + (0.2 * rng.choice([-1, 1]) if index >= 30 else 0.0))
    wild = table.correction.surprise.scale
    assert wild > 1.5
    doubt = table.uncertainty(plans[40:])
    table.correction.surprise = Surprise(least=1.0)
    np.testing.assert_allclose(doubt, wild * table.uncertainty(plans[40:]))
    for plan in plans[40:60].tolist():
        table.learn(plan, float(table.predict(np.array([plan]))[0]))
    assert table.correction.surprise.scale == 1.0


def test_a_candidate_counts_by_the_width_of_its_own_measurement() -> None:
    sure, unsure = world(0)[0], world(0)[0]
    _, plans, measured = world(0)
    for table, deviation in ((sure, 0.002), (unsure, 0.2)):
        for plan, cost in zip(plans[:20].tolist(), measured[:20], strict=True):
            table.learn(plan, cost, 0.002)
        table.learn(plans[20].tolist(), measured[20] + 0.1, deviation)
    before = float(unsure.cost(unsure.taken(plans[20:21]))[0])
    moved = [float(table.predict(plans[20:21])[0]) - before for table in (sure, unsure)]
    assert moved[0] > moved[1] + 0.01


def test_with_each_candidate_the_doubt_shrinks() -> None:
    table, plans, measured = world(1)
    doubts = [table.uncertainty(plans[100:]).mean()]
    for plan, cost in zip(plans[:40].tolist(), measured[:40], strict=True):
        table.learn(plan, cost)
    doubts.append(table.uncertainty(plans[100:]).mean())
    assert doubts[1] < 0.6 * doubts[0]


def test_whatever_was_learnt_what_is_within_reach_stays_the_lowest_by_the_line() -> None:
    table, plans, measured = world(2)
    for plan, cost in zip(plans[:30].tolist(), measured[:30], strict=True):
        table.learn(plan, cost)
    lowest = Reach(table).lowest(np.zeros((1, plans.shape[1]), dtype=np.int64), 0)[0]
    by_line = table.cost(table.taken(plans))
    for level in np.unique(plans[:, 0]):
        assert lowest[level] <= by_line[plans[:, 0] == level].min() + 1e-9


def test_a_removed_block_is_one_plan_whichever_of_its_groups_says_so() -> None:
    told = problem((2, 0))
    table = told.costs.tables["latency"]
    table.learn([4, 0, 0], 0.7)
    one, other = table.predict(np.array([[4, 0, 0], [4, 4, 0]]))
    assert one == pytest.approx(other)
