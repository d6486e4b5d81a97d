"""Which trials may become finalists, and in which order; the finalists themselves run in cli/test_diverging.py."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.records import Interval, Trial
from pipeline.run.selection import batches, pick_finalists
from tests.examples import failed_trial, measurement, trial

LIMITS = {"latency": 0.5}


def candidate(index: int, reward: float, **changes: Any) -> Trial:
    return trial(index, key=f"k{index}", reward=reward, **changes)


def indices(trials: list[Trial]) -> list[int]:
    return [t.index for t in trials]


def test_the_best_reward_comes_first_and_equals_in_the_order_of_trial() -> None:
    trials = [candidate(0, 0.5), candidate(1, 0.9), candidate(2, 0.9)]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 2, 0]


def test_trials_that_failed_or_miss_a_target_are_no_finalists() -> None:
    trials = [failed_trial(0), candidate(1, 0.9, feasible=False), candidate(2, 0.1)]
    assert indices(pick_finalists(trials, LIMITS)) == [2]


@pytest.mark.parametrize(
    ("low", "high", "may"), [(0.49, 0.52, True), (0.501, 0.509, False), (math.nan, math.nan, False)]
)
def test_one_that_misses_the_latency_by_less_than_its_interval_may_become_one(
    low: float, high: float, may: bool
) -> None:
    near = measurement(ratio=Interval(0.505, low, high))
    trials = [candidate(0, 0.9, feasible=False, measurement=near), candidate(1, 0.5)]
    assert indices(pick_finalists(trials, LIMITS)) == ([0, 1] if may else [1])
    assert indices(pick_finalists(trials, {"energy": 0.5})) == [1]


def test_one_network_is_a_finalist_once() -> None:
    twice = [candidate(0, 0.9), trial(1, key="k0", reward=0.8)]
    assert len(pick_finalists(twice, LIMITS)) == 1


def test_an_imprecise_figure_is_no_reason_to_come_later() -> None:
    trials = [candidate(0, 0.2), candidate(1, 0.9, measurement=measurement(flags=("noisy",)))]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 0]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (5, [3])])
def test_finalists_are_tried_so_many_at_a_time(count: int, sizes: list[int]) -> None:
    trials = [candidate(i, 0.5) for i in range(3)]
    assert [len(batch) for batch in batches(trials, count)] == sizes


def test_a_trial_is_looked_at_only_when_its_batch_has_its_turn() -> None:
    seen: list[int] = []
    trials = (seen.append(i) or candidate(i, 0.5) for i in range(3))  # type: ignore[func-returns-value]
    assert len(next(batches(trials, 2))) == 2
    assert seen == [0, 1]


def test_without_feasible_trials_there_are_no_finalists() -> None:
    assert pick_finalists([candidate(0, 0.9, feasible=False)], {}) == []
    assert list(batches([], 3)) == []
