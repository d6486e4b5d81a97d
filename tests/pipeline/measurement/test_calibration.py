"""A calibration's figures, from simulated measurements whose truth is known, and what it holds for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from pipeline import serialization
from pipeline.measurement.between_processes import Spread, between_processes
from pipeline.measurement.calibration import (
    TIMES,
    Calibration,
    Checked,
    Conditions,
    Rate,
    Unit,
    calibration,
    checked,
    covered,
    different,
    units,
)
from pipeline.records import Device, Interval, MeasureSettings
from tests.examples import calibration as example
from tests.examples import device_facts

BLOCK = 0.013
"""Standard deviation of a block's log ratio: twenty of them leave 0.3 %."""
BLOCKS = 20
PROCESSES = 5
DEVICE = Device(name="pi4", kind="raspberry-pi-4")


def ratio(logs: np.ndarray) -> Interval:
    """Return the ratio whose logarithm is the mean of figures that are independent of each other."""
    count, mean = len(logs), float(logs.mean())
    half = float(stdtrit(count - 1, 0.975)) * float(logs.std(ddof=1)) / math.sqrt(count)
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def one_process(rng: np.random.Generator, times: float, between: float) -> Interval:
    return ratio(rng.normal(rng.normal(0.0, between), BLOCK, round(BLOCKS * times)))


def several_processes(rng: np.random.Generator, times: float, between: float) -> Interval:
    within = BLOCK / math.sqrt(BLOCKS * times / PROCESSES)
    return ratio(rng.normal(0.0, math.hypot(between, within), PROCESSES))


def simulated(
    seed: int, between: float, measurements: int = 20, processes: int = PROCESSES
) -> dict[Unit, list[Interval]]:
    rng = np.random.default_rng(seed)
    return {
        unit: [
            (one_process if unit.processes == 1 else several_processes)(rng, unit.times, between)
            for _ in range(measurements)
        ]
        for unit in units(processes)
    }


def single(seed: int, between: float) -> Spread:
    """Return what measurements of all lengths, each in one process, say of the board."""
    found = between_processes([one for ratios in simulated(seed, between, processes=1).values() for one in ratios])
    assert found is not None
    return found


def calibrated(taken: dict[Unit, list[Interval]], **changes: Any) -> Calibration:
    conditions = Conditions.of(DEVICE, device_facts(), MeasureSettings())
    return calibration(
        taken, device=DEVICE, conditions=conditions, model="resnet20", date="2026-11-30T10:00:00+00:00", **changes
    )


def rows(found: Sequence[Calibration], **of: object) -> list[Checked]:
    return [c for one in found for c in one.checked if all(getattr(c, k) == v for k, v in of.items())]


@pytest.fixture(scope="module")
def boards() -> list[Calibration]:
    """Forty calibrations of boards whose processes differ by 0.6 %."""
    return [calibrated(simulated(seed, 0.006)) for seed in range(40)]


@pytest.mark.parametrize("between", [0.003, 0.006, 0.016])
def test_what_differs_between_processes_is_found_over_all_lengths(between: float) -> None:
    found = [single(seed, between) for seed in range(40)]

    assert math.sqrt(np.mean([s.between**2 for s in found])) == pytest.approx(between, rel=0.1)
    assert all(19 <= spread.freedom <= 59 for spread in found)


def test_the_variance_between_processes_is_as_uncertain_as_its_degrees_of_freedom_say() -> None:
    found = [single(seed, 0.006) for seed in range(200)]
    variances = np.array([spread.total**2 for spread in found])

    said = np.sqrt(np.mean([2 * spread.total**4 / spread.freedom for spread in found]))
    assert said == pytest.approx(variances.std(ddof=1), rel=0.2)


def test_nothing_between_processes_is_found_where_nothing_is() -> None:
    found = np.array([single(s, 0.0).between for s in range(60)])

    assert 0.3 < np.mean(found == 0.0) < 0.7
    assert found.max() < 0.002


def test_a_few_measurements_beside_a_noisy_neighbour_do_not_hide_what_the_others_show_of_their_processes() -> None:
    """One in ten is ten times as noisy, as on a board that is shared: its own interval says so."""
    rng = np.random.default_rng(3)
    scales = [0.03 if number % 10 == 0 else 0.003 for number in range(20)]

    def ratios() -> list[Interval]:
        return [ratio(rng.normal(rng.normal(0.0, 0.006), 4.5 * scale, BLOCKS)) for scale in scales]

    found = [between_processes(ratios()) for _ in range(60)]
    assert math.sqrt(np.mean([one.between**2 for one in found if one])) == pytest.approx(0.006, rel=0.1)


@pytest.mark.slow
def test_one_process_s_blocks_promise_too_much_the_more_the_longer_it_runs(boards: list[Calibration]) -> None:
    shares = [np.mean([c.covered.value for c in rows(boards, times=t, processes=1, widened=False)]) for t in TIMES]

    truth = [0.64, 0.41, 0.25]  # a normal's share within t(19, 59, 179) times the blocks' error, beside 0.6 %
    assert shares == pytest.approx(truth, abs=0.04)


def test_intervals_that_carry_it_and_those_of_several_processes_hold_the_truth(boards: list[Calibration]) -> None:
    for of in ({"widened": True}, {"processes": PROCESSES}):
        for times in TIMES:
            found = rows(boards, times=times, **of)
            assert np.mean([c.covered.value for c in found]) == pytest.approx(0.95, abs=0.025)
            assert 0.01 < np.mean([c.different.value for c in found]) < 0.07


@pytest.mark.parametrize(
    ("times", "between"),
    [(1.0, 0.003), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1.0, 0.0), (3.0, 0.003), (1.0, 0.006)))],
)
def test_standard_errors_are_what_rates_spread_by_from_one_calibration_to_the_next(
    times: float, between: float
) -> None:
    rng = np.random.default_rng(5)
    series = [[one_process(rng, times, between) for _ in range(20)] for _ in range(200)]
    for rate in (different, covered):
        found = [rate(ratios) for ratios in series]
        spread = np.std([of.value for of in found], ddof=1)
        assert math.sqrt(np.mean([of.error**2 for of in found])) == pytest.approx(spread, rel=0.25)


def test_pairs_are_no_independent_cases() -> None:
    rng = np.random.default_rng(6)
    found = [different([one_process(rng, 3.0, 0.003) for _ in range(20)]) for _ in range(50)]

    of_pairs = np.mean([math.sqrt(of.value * (1 - of.value) / 190) for of in found])
    assert np.mean([of.error for of in found]) > 1.8 * of_pairs


def test_rates_of_nought_and_of_one_have_an_error_as_well() -> None:
    alike = [Interval(1.0, 0.99, 1.01)] * 20

    assert (different(alike).value, covered(alike).value) == (0.0, 1.0)
    assert 0.02 < different(alike).error < 0.04 < covered(alike).error < 0.06


def test_a_row_tells_how_wide_the_intervals_are() -> None:
    found = checked(Unit(3.0), [Interval(1.0, 0.99, 1.01), Interval(2.0, 1.94, 2.06)])

    assert (found.times, found.measurements, found.half_width) == (3.0, 2, pytest.approx(0.02))


def test_a_calibration_has_every_length_by_its_blocks_widened_and_over_several_processes() -> None:
    found = calibrated(simulated(1, 0.006, measurements=5), invalid=2)

    kinds = [(c.times, c.processes, c.widened) for c in found.checked]
    assert kinds == [(t, p, w) for p, w in ((1, False), (1, True), (PROCESSES, False)) for t in TIMES]
    assert found.measurements == 5
    assert (found.device, found.kind, found.model, found.invalid) == ("pi4", "raspberry-pi-4", "resnet20", 2)


def test_where_everything_is_measured_in_one_process_there_is_no_other_kind() -> None:
    found = calibrated(simulated(1, 0.006, measurements=5, processes=1))

    assert [(c.times, c.widened) for c in found.checked] == [(t, w) for w in (False, True) for t in TIMES]
    assert "in one process" in str(found)


def test_too_few_measurements_are_no_calibration() -> None:
    with pytest.raises(ValueError, match="takes two measurements of each length at least, found 1"):
        calibrated(simulated(1, 0.006, measurements=1))


def test_a_calibration_is_the_same_after_it_was_written_and_read() -> None:
    found = calibrated(simulated(2, 0.006, measurements=5))

    assert serialization.load(Calibration, serialization.from_text(serialization.to_text(found))) == found


def test_the_sentence_has_the_deviation_and_the_rates_that_runs_print() -> None:
    assert str(example()) == (
        "2026-11-30 with resnet20: ratios differ by 0.4 % from process to process; pairs of the same network called"
        " different: 4, 5, 6 % in one process, 2, 3, 2 % in 5 processes; intervals that hold the truth:"
        " 95, 94, 95 % in one process, 96, 95, 95 % in 5 processes"
    )


def test_intervals_that_surely_hold_the_truth_too_seldom_are_told_and_those_by_chance_are_not() -> None:
    found = example()
    first, *others = (replace(c, covered=Rate(0.75, 0.06)) if c.widened else c for c in found.checked[3:])

    assert found.short() == ""
    assert replace(found, checked=(first, *others)).short().startswith("75.0 % ±6.0 at 1× in one process, 75.0 %")
    assert replace(found, checked=(replace(first, covered=Rate(0.8, 0.09)), *others[2:])).short() == ""


# ---------------------------------------------------------------- what it holds for


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runtime": "onnxruntime 1.23.0"}, "of another runtime: onnxruntime 1.22.0, now onnxruntime 1.23.0"),
        ({"board": "Raspberry Pi 5"}, "of another board: "),
        ({"address": "pi4.lan:22"}, "of another address: none, now pi4.lan:22"),
        ({"modes": {"governor": "performance"}}, "of another set of power modes: none, now governor performance"),
        ({"settings": MeasureSettings(threads=4)}, "of another number of threads: 1, now 4"),
        ({"settings": MeasureSettings(block_s=0.1)}, "of another block_s: 0.025, now 0.1"),
        ({"settings": MeasureSettings(min_s=1.0)}, "of another min_s: 0.5, now 1"),
    ],
)
def test_another_board_runtime_or_setting_is_named(change: dict[str, Any], words: str) -> None:
    then = Conditions.of(DEVICE, device_facts(), MeasureSettings())
    found = replace(example(), conditions=then)

    assert found.misfit(then) is None
    why = found.misfit(replace(then, **change))
    assert why is not None
    assert why.startswith(words)


def test_settings_that_change_no_figure_do_not_count() -> None:
    then = Conditions.of(DEVICE, device_facts(), MeasureSettings())

    assert replace(example(), conditions=then).misfit(replace(then, settings=MeasureSettings(timeout_s=9.0))) is None


@pytest.mark.parametrize(
    "spread",
    [
        Spread(total=-0.1, within=0.0, freedom=9),
        Spread(total=11.0, within=0.0, freedom=9),
        Spread(total=0.1, within=0.0, freedom=0),
    ],
)
def test_a_spread_that_nobody_measured_is_not_read(spread: Spread) -> None:
    with pytest.raises(ValueError, match="spread"):
        serialization.load(Calibration, serialization.dump(replace(example(), spread=spread)))
