"""Which of several plans is worth the next trial: what it gains, by how probable it is to meet the target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.search.planning import Indices
from pipeline.search.proposing import Proposer
from tests.pipeline.search.toys import problem, trial_of

PLAN = np.array([[4, 4, 4, 0, 0, 0]])


def proposer(limit: float, *, margin: float = 0.0) -> Proposer:
    """One whose target is so much of what ``PLAN`` is predicted to cost."""
    toy = problem()
    cost = float(toy.costs.predict(PLAN)["latency"][0])
    return Proposer(replace(toy, limits={"latency": limit * cost * (1 - margin)}, margin=margin))


def score(told: Proposer, plans: Indices = PLAN) -> float:
    return float(told.scores(plans, 0.0)[0])


def test_a_plan_counts_less_the_less_probable_it_is_to_meet_the_target() -> None:
    scores = [score(proposer(limit)) for limit in (2.0, 1.1, 1.01, 0.99, 0.9, 0.5)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(float(proposer(2.0).planner.potential(PLAN)[0]))
    assert scores[-1] == pytest.approx(0.0, abs=1e-3)


def test_a_plan_at_the_target_itself_counts_half() -> None:
    """The margin that plans are made with is no part of the target."""
    for margin in (0.0, 0.02):
        assert score(proposer(1.0, margin=margin)) == pytest.approx(score(proposer(2.0)) / 2)


def test_where_nothing_is_gained_the_more_probable_plan_is_worth_more() -> None:
    likely, unlikely = proposer(1.1), proposer(0.95)
    for told in (likely, unlikely):
        best = trial_of(told.problem, 0, told.planner.plan([0, 0, 0, 0, 0, 4]))
        told.tell(replace(best, reward=5.0, feasible=True))
    assert score(unlikely) < score(likely) < 0


def test_a_plan_that_missed_the_target_is_not_what_others_have_to_beat() -> None:
    told = proposer(1.1)
    before = score(told)
    missed = trial_of(told.problem, 0, told.planner.plan([0, 0, 0, 0, 0, 4]))
    told.tell(replace(missed, reward=5.0, feasible=False))
    assert score(told) == before


def test_a_best_plan_whose_reward_is_negative_is_what_others_have_to_beat() -> None:
    told = proposer(2.0)
    before = score(told)
    best = trial_of(told.problem, 0, told.planner.plan([0, 0, 0, 0, 0, 4]))
    told.tell(replace(best, reward=-0.5, feasible=True))
    assert score(told) == pytest.approx(before + 0.5)


def test_without_targets_every_plan_counts_in_full() -> None:
    told = Proposer(problem(limits={}))
    assert score(told) == pytest.approx(float(told.planner.potential(PLAN)[0]))
