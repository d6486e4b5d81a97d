"""The benchmark of simulated boards: it counts right, where the right count is known."""

from __future__ import annotations

import json
import sys

import pytest
from _common.findings import Findings, share
from _common.virtual_board import Conditions
from _common.virtual_run import ABOVE, FINALISTS, INSIDE, LIMIT, PLAIN, SEARCHED
from simulated_boards import INTERVALS, main, simulate, tables

from pipeline.records import Interval


def test_an_ideal_board_rejects_just_what_is_too_slow_and_ends_with_the_slowest_that_is_not() -> None:
    found = simulate(Conditions(pair_sd=1e-3, common_sd=1e-4), range(2), seed=0)
    assert share(found.rejected["1 % inside"]) == (0.0, 0.0)
    assert [share(found.rejected[kind])[0] for kind in ABOVE] == [1.0] * 3
    assert [found.saved_s(kind) > 0 for kind in ABOVE] == [True] * 3
    assert found.none_chosen == 0
    truths = {name: {truth for _, truth in seen} for name, seen in found.intervals.items()}
    assert truths["again"] == {PLAIN}
    assert truths["chosen ratio"] <= {one for one in FINALISTS if INSIDE <= one <= 1.001 * LIMIT}
    for name in ("search ratio", "again", "whole", "chosen ratio"):
        seen = found.coverage(name)
        assert seen is not None
        assert abs(seen.bias) < 2e-3


@pytest.mark.slow
def test_what_differs_between_processes_is_in_the_figures() -> None:
    found = simulate(Conditions(pair_sd=1e-3, common_sd=1e-4, between=0.05), range(4), seed=0)
    values = [interval.value / truth - 1 for interval, truth in found.intervals["search ratio"]]
    assert len(values) == 4 * len(SEARCHED["plain"])
    assert (sum(value**2 for value in values) / len(values)) ** 0.5 == pytest.approx(0.05, rel=0.5)


def test_coverage_width_and_bias_are_those_of_the_intervals() -> None:
    found, other = Findings(), Findings()
    found.intervals["base ms"] += [(Interval(2.2, 2.0, 2.4), 2.0), (Interval(2.2, 2.1, 2.3), 2.0)]
    other.intervals["base ms"] += [(Interval(1.8, 1.6, 2.0), 2.0), (Interval(1.8, 1.7, 2.4), 2.0)]
    found.add(other)
    seen = found.coverage("base ms")
    assert seen is not None
    assert (seen.count, seen.holds) == (4, 0.75)
    assert (seen.half_width, seen.bias) == pytest.approx((0.10625, 0.0))
    assert seen.holds_error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert found.coverage("again") is None


def test_the_tables_have_a_row_for_each_board_and_one_for_all() -> None:
    found = simulate(Conditions(), range(1), seed=0)
    covered, widths, rejected, seconds = tables({"one": found, "other": found})
    assert [table.row_count for table in (covered, widths, rejected, seconds)] == [3, 3, 3, 2]
    assert [table.row_count for table in tables({"one": found})] == [1, 1, 1, 1]


def test_figures_come_as_json_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulated_boards.py", "--repeats", "1", "--boards", "quiet", "--json"])
    main()
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["runs"] == 1
    assert set(found["intervals"]) <= set(INTERVALS)
    assert found["board_s"]["whole"] > found["board_s"]["plain"] > 0
