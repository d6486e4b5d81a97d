"""What finalists go through: so many at first, so many passes each, and what that costs in all."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import FineTuningConfig
from pipeline.run.successive_halving import cost, rungs_of


def told(**changes: Any) -> FineTuningConfig:
    return FineTuningConfig(**{"finalist_epochs": 0.3, "min_steps": 0, "batch_size": 100, **changes})


@pytest.mark.parametrize(
    ("settings", "found", "expected"),
    [
        ({"finalists": 9, "halving": 3}, 40, [(9, 0.1), (3, 0.3)]),
        ({"finalists": 8, "halving": 2}, 40, [(8, 0.075), (4, 0.15), (2, 0.3)]),
        ({"finalists": 3, "halving": 3}, 40, [(3, 0.3)]),  # as without halving
        ({"finalists": 9, "halving": 3}, 4, [(4, 0.1), (2, 0.3)]),
        ({"finalists": 9, "halving": 3}, 1, [(1, 0.3)]),
    ],
)
def test_fewer_finalists_get_more_passes_from_rung_to_rung(
    settings: dict[str, Any], found: int, expected: list[tuple[int, float]]
) -> None:
    rungs = rungs_of(told(**settings), found, seed=0)
    assert [(rung.finalists, pytest.approx(rung.settings.epochs)) for rung in rungs] == expected
    assert [rung.settings.seed for rung in rungs] == list(range(len(rungs)))  # other images come first each time


def test_what_is_told_of_the_cost_is_what_is_trained() -> None:
    rungs = rungs_of(told(finalists=9, halving=3), 40, seed=0)
    assert [rung.steps(10_000) for rung in rungs] == [10, 30]
    assert cost(rungs, 10_000) == "passes over the training split for finalists: 9 × 0.1, then 3 × 0.3; 1.8 in all"
    small = rungs_of(told(finalists=9, halving=3, min_steps=120), 40, seed=0)
    assert [rung.steps(1000) for rung in small] == [20, 60]
    assert cost(small, 1000).endswith("9 × 2, then 3 × 6; 36 in all")


def test_without_passes_nothing_is_trained() -> None:
    assert [rung.steps(10_000) for rung in rungs_of(told(finalist_epochs=0, finalists=9, min_steps=8), 9, 0)] == [0, 0]
