"""Which of several plans is worth the next trial: by how probable it is that it is better, and meets the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from _common.toys import problem, trial_of

from pipeline.search.genetic import evolve
from pipeline.search.planner import Indices, repair_to_feasible
from pipeline.search.proposer import Proposer
from pipeline.search.proposer_settings import ProposerSettings

PLAN = np.array([[4, 4, 4, 0, 0, 0]])


def proposer(limit: float, *, margin: float = 0.0) -> Proposer:
    """One whose target is so much of what ``PLAN`` is predicted to cost."""
    toy = problem()
    cost = float(toy.costs.predict(PLAN)["latency"][0])
    return Proposer(replace(toy, limits={"latency": limit * cost * (1 - margin)}, margin=margin), ProposerSettings())


def score(told: Proposer, plans: Indices = PLAN) -> float:
    return float(told.scores(plans)[0])


def with_measured(
    told: Proposer, *, feasible: bool = True, reward: float = 0.5, cuts: Sequence[int] = (0, 0, 0, 0, 0, 4)
) -> Proposer:
    """One that knows a plan; by default one which cuts less than ``PLAN`` and is predicted a higher reward."""
    trial = trial_of(told.problem, 0, told.planner.plan(cuts))
    told.tell(replace(trial, reward=reward, feasible=feasible))
    return told


def test_a_lower_prediction_than_the_best_is_better_with_less_than_even_odds_and_the_reverse() -> None:
    assert score(with_measured(proposer(50.0))) < np.log(0.5)
    assert np.log(0.5) < score(with_measured(proposer(50.0), cuts=(4, 4, 4, 4, 4, 4))) < 0


def test_while_no_plan_has_met_the_targets_what_surely_misses_them_is_worth_least() -> None:
    plans = np.array([[4, 4, 4, 4, 4, 4], [4, 4, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert proposer(1.0).scores(plans).argmin() == 2


def test_a_plan_counts_less_the_less_probable_it_is_to_meet_the_target() -> None:
    scores = [score(proposer(limit)) for limit in (2.0, 1.1, 1.01, 0.99, 0.9, 0.5)]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()


def test_a_plan_at_the_target_itself_counts_half() -> None:
    """The margin that plans are made with is no part of the target."""
    for margin in (0.0, 0.02):
        assert score(proposer(1.0, margin=margin)) == pytest.approx(score(proposer(2.0)) + np.log(0.5))


def test_where_nothing_is_gained_the_more_probable_plan_is_worth_more() -> None:
    likely, unlikely = with_measured(proposer(1.1)), with_measured(proposer(0.95))
    assert score(unlikely) < score(likely)


def test_a_plan_that_met_the_target_is_what_others_have_to_beat() -> None:
    assert score(with_measured(proposer(1.1))) < score(proposer(1.1))


def test_a_plan_that_missed_the_target_is_not_what_others_have_to_beat() -> None:
    assert score(with_measured(proposer(1.1), feasible=False)) == score(proposer(1.1))


def test_what_others_have_to_beat_is_no_lucky_measurement() -> None:
    assert score(with_measured(proposer(1.1), reward=0.5)) == score(with_measured(proposer(1.1), reward=5.0))


def test_without_targets_every_plan_counts_in_full() -> None:
    free, roomy = with_measured(Proposer(problem(limits={}), ProposerSettings())), with_measured(proposer(50.0))
    assert score(free) == pytest.approx(score(roomy))


def test_evolution_finds_better_plans_that_the_masks_allow() -> None:
    told = with_measured(proposer(1.0))
    begun = told.mutate_incumbents()
    plans = evolve(told.planner, begun, told.scores, told.rng)
    assert told.scores(plans).max() > told.scores(begun).max()
    assert told.planner.can_meet(plans).all()


@pytest.mark.parametrize(("off", "stays"), [(0.92, True), (1.0, False)])
def test_a_plan_stays_feasible_if_its_neighbours_measured_faster_than_their_single_cuts_predict(
    off: float, stays: bool
) -> None:
    told = proposer(0.95)
    costs = told.problem.costs
    slower = np.array([[0, 0, 0, 4, 4, 4]])
    for plan, times in ((np.array([[4, 4, 4, 1, 0, 0]]), off), (slower, 2 - off)):
        costs.learn(plan[0].tolist(), {"latency": times * float(costs.predict(plan)["latency"][0])})
    table = costs.tables["latency"]
    assert table.cost(table.taken(PLAN))[0] > told.planner.relaxed_limits()["latency"], (
        "by its single cuts alone it is too slow"
    )
    assert (repair_to_feasible(told.planner, PLAN) == PLAN).all() == stays


def test_a_plan_that_is_still_being_measured_takes_its_neighbours_worth() -> None:
    told = with_measured(proposer(1.1))
    for index, cuts in enumerate([(0, 0, 0, 4, 4, 4), (4, 0, 4, 0, 4, 0), (0, 4, 0, 4, 0, 4)], 1):
        told.tell(trial_of(told.problem, index, told.planner.plan(cuts)))
    told.learn()
    begun = told.pick(PLAN)
    doubt = told.accuracy.predict(np.array([begun]))[1][0]
    told.learn()
    assert told.accuracy.predict(np.array([begun]))[1][0] < 0.9 * doubt
    believed = told.accuracy.predict(np.array([begun]))[1][0]
    told.tell(replace(trial_of(told.problem, 9, told.planner.plan(begun)), candidate=None, reward=None, failure="gone"))
    told.learn()
    assert told.accuracy.predict(np.array([begun]))[1][0] > believed, "nothing came of it, so it is not known"
