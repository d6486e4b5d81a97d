"""What the tables of benchmarks say of their figures: which is best, how sure, and what all lines share."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from typing import Any

import equal_budget
import pytest
from _common import results


def line(strategy: str, search: Sequence[float | None], test: Sequence[float | None]) -> Any:
    """A strategy's line at one budget; None: that seed found no net."""
    rows = [
        {
            "best": [] if found is None else [{"accuracy": found, "key": strategy}], "test": read, "feasible": 0.5,
            "ask_s": 1.0, "budget": 60,
        }
        for found, read in zip(search, test, strict=True)
    ]  # fmt: skip
    return equal_budget.Line(strategy, {60: rows})


def cells(*lines: Any) -> dict[str, list[str]]:
    shown = equal_budget.told_of(equal_budget.ordered(lines)).splitlines()[1:]
    return {row.split("  ")[0]: [cell.strip() for cell in row.split("  ")[1:] if cell.strip()] for row in shown}


def test_the_best_is_so_on_the_test_split_whatever_the_search_split_says() -> None:
    found = cells(line("flattered", [0.86, 0.88], [0.79, 0.78]), line("best", [0.84, 0.85], [0.79, 0.80]))
    assert list(found) == ["best", "flattered"]
    assert found["best"][:2] == ["84.5 ± 0.5", "79.5 ± 0.5*"]
    assert found["flattered"][:2] == ["87.0 ± 1.0", "78.5 ± 0.5"]


def test_lines_that_are_equal_as_shown_are_marked_alike() -> None:
    found = cells(line("one", [0.8], [0.79]), line("other", [0.8], [0.79]), line("third", [0.8], [0.75]))
    assert [row[1] for row in found.values()] == ["79.0*", "79.0*", "75.0"]


def test_a_strategy_with_a_seed_that_found_none_is_not_the_best_by_its_lucky_ones() -> None:
    found = cells(line("lucky", [None, 0.99], [None, 0.95]), line("steady", [0.8, 0.8], [0.7, 0.7]))
    assert list(found) == ["steady", "lucky"]
    assert found["steady"][:2] == ["80.0 (2 alike)", "70.0 (2 alike)*"]
    assert found["lucky"][:2] == ["99.0 (1 found none)", "95.0"]


def test_nets_that_several_strategies_found_count_once_and_the_better_half_is_told_apart() -> None:
    good = {"a": (0.90, 0.83), "b": (0.89, 0.84), "c": (0.88, 0.85)}
    poor = {"d": (0.5, 0.6), "e": (0.4, 0.5), "f": (0.3, 0.4)}
    told = equal_budget.holds({"one": good, "other": dict(good), "third": poor})
    assert "among 6 different nets" in told
    assert told.endswith("-1.00 among the better half of them before")
    assert equal_budget.holds({"one": good}) == "too few strategies to say whether the ranking holds"


def test_an_error_is_never_shown_as_none() -> None:
    assert doctest.testmod(results).failed == 0
    assert results.mean([0.947, 0.947], scale=100, digits=1) == "94.7 (2 alike)"
    assert results.mean([0.94701, 0.94702], scale=100, digits=1) == "94.7 ± 0.0005"


@pytest.mark.parametrize(("accuracy", "images", "points"), [(0.79, 10_000, "0.4"), (0.85, 1000, "1.1")])
def test_images_alone_make_an_accuracy_uncertain(accuracy: float, images: int, points: str) -> None:
    assert results.by_images(accuracy, images).startswith(f"± {points} points by its {images:,} images")
