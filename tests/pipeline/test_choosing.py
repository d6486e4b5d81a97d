"""Which trials become finalists, and which of them is chosen; the finals themselves run in cli/test_end_to_end.py."""

from __future__ import annotations

import pytest

from pipeline.choosing import batches, pick_finalists
from pipeline.records import Interval, Trial
from tests.examples import failed_trial, measurement, trial

LIMITS = {"latency": 0.5}


def candidate(index: int, reward: float, high: float = 0.45, flags: tuple[str, ...] = (), **changes: object) -> Trial:
    measured = measurement(ratio=Interval(0.44, 0.43, high), flags=flags)
    return trial(index, key=f"k{index}", reward=reward, measurement=measured, **changes)


def indices(trials: list[Trial]) -> list[int]:
    return [t.index for t in trials]


def test_the_best_reward_comes_first_and_equals_in_the_order_of_trial() -> None:
    trials = [candidate(0, 0.5), candidate(1, 0.9), candidate(2, 0.9)]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 2, 0]


def test_trials_that_failed_or_miss_a_target_are_no_finalists() -> None:
    trials = [failed_trial(0), candidate(1, 0.9, feasible=False), candidate(2, 0.1)]
    assert indices(pick_finalists(trials, LIMITS)) == [2]


def test_one_network_is_a_finalist_once() -> None:
    twice = [candidate(0, 0.9), trial(1, key="k0", reward=0.8)]
    assert len(pick_finalists(twice, LIMITS)) == 1


def test_those_that_surely_meet_the_latency_come_before_those_that_may() -> None:
    trials = [candidate(0, 0.9, high=0.51), candidate(1, 0.1, high=0.5)]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 0]
    assert indices(pick_finalists(trials, {})) == [0, 1]


def test_an_infinite_interval_is_not_sure() -> None:
    trials = [candidate(0, 0.9, high=float("inf")), candidate(1, 0.1)]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 0]


def test_figures_in_doubt_come_last_and_never_beside_figures_that_are_not() -> None:
    trials = [candidate(0, 0.9, flags=("noisy",)), candidate(1, 0.2), candidate(2, 0.8, flags=("throttled",))]
    ranked = pick_finalists(trials, LIMITS)
    assert indices(ranked) == [1, 0, 2]
    assert [indices(list(batch)) for batch in batches(ranked, 3)] == [[1], [0, 2]]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (5, [3])])
def test_finalists_are_tried_so_many_at_a_time(count: int, sizes: list[int]) -> None:
    ranked = [candidate(i, 0.5) for i in range(3)]
    assert [len(batch) for batch in batches(ranked, count)] == sizes


def test_without_feasible_trials_there_are_no_finalists() -> None:
    assert pick_finalists([candidate(0, 0.9, feasible=False)], LIMITS) == []
    assert list(batches([], 3)) == []
