"""Boards' effects in latency ratios: found where they are known, and told apart from what is a network's own."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.measurement.board_drift import drifted_away
from pipeline.measurement.board_model import BoardModel, Reading, fit, reading
from pipeline.records import Interval, OnBoard
from tests.examples import measurement

BOARDS = {"a": 0.03, "b": -0.03, "c": 0.01, "d": -0.01}


def simulated(
    seed: int, *, networks: int = 12, on: int = 2, noise: float = 0.003, interaction: float = 0.0, slope: float = 0.0
) -> Iterator[Reading]:
    """Networks measured on some of the boards each, a board's effect, its drift and noise in every ratio."""
    chance = np.random.default_rng(seed)
    names = list(BOARDS)
    for number in range(networks):
        network = chance.normal(-0.7, 0.3)
        for step in range(on):
            board = names[(number + step) % len(names)]
            drift = abs(chance.normal(0, 0.03))
            value = network + BOARDS[board] + slope * drift + chance.normal(0, interaction) + chance.normal(0, noise)
            yield Reading(f"n{number}", board, value, noise**2, drift)


def fitted(readings: Iterator[Reading]) -> BoardModel:
    model = fit(readings)
    assert model is not None
    return model


def test_boards_effects_are_found_and_their_errors_are_told() -> None:
    misses = 0
    for seed in range(20):
        model = fitted(simulated(seed))
        for board, truth in BOARDS.items():
            found = model.boards[board]
            misses += abs(found.value - truth) > 1.96 * math.sqrt(found.variance)
            assert found.value == pytest.approx(truth, abs=0.012)
    assert misses <= 12  # of 80


def test_variance_components_are_near_those_that_the_readings_were_made_with() -> None:
    found = [fitted(simulated(seed, networks=40, on=3, interaction=0.02)).components for seed in range(10)]
    assert np.mean([one.interaction for one in found]) == pytest.approx(0.02, rel=0.2)
    assert np.mean([one.board for one in found]) == pytest.approx(np.std(list(BOARDS.values()), ddof=1), rel=0.4)
    assert {one.networks for one in found} == {40}
    without = [fitted(simulated(seed, networks=40, on=3)).components.interaction for seed in range(5)]
    assert max(without) < 0.004


def test_what_a_board_drifts_by_and_its_ratios_with_it_is_in_neither_network_nor_board() -> None:
    model = fitted(simulated(3, networks=60, on=3, slope=0.5))
    assert model.components.drift > 0.2
    for board in BOARDS:
        assert model.drifts[board].value == pytest.approx(0.5, abs=0.15)


def test_a_ratio_of_one_board_becomes_that_of_all_and_its_interval_holds_what_is_not_known() -> None:
    model = fitted(simulated(1))
    measured = Interval(0.5 * math.exp(0.03), 0.5 * math.exp(0.025), 0.5 * math.exp(0.035))
    mean = model.over_boards(measured, "a", 0.0, "mean")
    assert mean.value == pytest.approx(0.5, rel=0.01)
    assert mean.low < 0.5 < mean.high
    assert mean.half_width >= measured.half_width * mean.value / measured.value
    worst, most = (model.over_boards(measured, "a", 0.0, over).value for over in ("worst", "q90"))  # type: ignore[arg-type]
    assert worst == pytest.approx(0.5 * math.exp(0.03), rel=0.012)
    assert mean.value < most < worst
    assert model.factor("a", "worst") == pytest.approx(1.0)
    assert model.factor("b", "worst") < 1
    unknown = model.over_boards(measured, "new", 0.0, "mean")
    assert (unknown.value, unknown.half_width > 3 * mean.half_width) == (pytest.approx(measured.value), True)


def test_networks_on_one_board_alone_tell_nothing_of_boards() -> None:
    assert fit(simulated(0, on=1)) is None
    assert fit([]) is None
    both = fitted(iter([*simulated(0), *(Reading(f"alone {n}", "a", 5.0, 1e-6, 0.0) for n in range(9))]))
    assert both.boards["a"].value == pytest.approx(fitted(simulated(0)).boards["a"].value, abs=1e-4)


def test_a_measurement_is_read_with_its_board_its_ratio_there_and_its_drift() -> None:
    on = OnBoard(name="a", network="n", slowdown=0.05, ratio=Interval(0.4, 0.39, 0.41))
    found = reading(measurement(ratio=Interval(0.5, 0.4, 0.6), board=on))
    assert found is not None
    assert (found.board, found.network, found.drift) == ("a", "n", pytest.approx(math.log(1.05)))
    assert math.exp(found.log_ratio) == pytest.approx(0.4)
    assert math.sqrt(found.variance) == pytest.approx(0.01 / 0.4 / 1.96, rel=0.01)
    assert reading(measurement()) is None


def test_what_all_boards_do_together_is_no_drift_of_one() -> None:
    warm = {name: [0.0, 0.05, 0.05, 0.06, 0.06] for name in "abc"}
    assert drifted_away(warm) == {}
    assert list(drifted_away({**warm, "d": [0.0, 0.1, 0.1, 0.11, 0.12]})) == ["d"]
    assert drifted_away({"a": [0.0] * 9, "b": [0.04, 0.0, 0.05, 0.05, 0.05]}) == {}  # three in a row are not enough
    assert list(drifted_away({"a": [0.0] * 9, "b": [-0.05] * 4})) == ["b"]  # faster is another board, too
