"""A network against itself: in which order, for how long, and what is left of measurements that were spoilt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.errors import DeviceError, StoppedError
from pipeline.evaluation.self_comparison import CalibrationPlan, measured, ratios_by_unit, settings_of
from pipeline.events import Event, Stage, StageProgress
from pipeline.export.onnx.skeleton import skeleton
from pipeline.measurement.calibration import TIMES, Unit, units
from pipeline.records import Device, MeasureSettings
from tests.recordings import QUICK, dense, recorded, rewritten, tape

TOLD = MeasureSettings(
    warmup_s=0.0, min_s=0.02, max_s=0.2, block_s=0.004, ci_rel=0.9, processes=3, max_background_cores=64
)
UNITS = units(TOLD.processes)
SKELETON = skeleton(dense(seed=0))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with open_agent(Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=TOLD)) as agent:
        yield agent


def test_every_round_has_each_length_in_one_process_and_over_several() -> None:
    units = list(CalibrationPlan(settings=TOLD, measurements=7).units())

    assert {(unit.times, unit.processes) for unit in UNITS} == {(t, p) for t in TIMES for p in (1, 3)}
    for start in range(0, len(units), len(UNITS)):
        assert Counter(units[start : start + len(UNITS)]) == Counter(UNITS)


def test_each_length_has_every_place_in_its_round_so_that_drift_falls_on_all_alike() -> None:
    units = list(CalibrationPlan(settings=TOLD, measurements=len(UNITS)).units())

    for unit in UNITS:
        places = [number % len(UNITS) for number, other in enumerate(units) if other == unit]
        assert sorted(places) == list(range(len(UNITS)))


def test_processes_share_the_time_of_a_measurement_of_their_length() -> None:
    told = MeasureSettings(min_s=10.0, max_s=60.0, processes=4)

    assert settings_of(Unit(9.0), told).min_s == pytest.approx(90.0)
    assert settings_of(Unit(9.0, 4), told).min_s == pytest.approx(90.0 / 4)
    assert settings_of(Unit(1.0), told) == replace(told, processes=1)


def test_the_time_told_beforehand_is_that_of_all_measurements_or_the_budget_s_whichever_is_shorter() -> None:
    one = CalibrationPlan(settings=MeasureSettings(), measurements=1).expected_s

    assert 2 * (1 + 3 + 9) * 2 * 0.5 < one < 120
    assert CalibrationPlan(settings=MeasureSettings(), measurements=20).expected_s == pytest.approx(20 * one)
    assert CalibrationPlan(settings=MeasureSettings(), measurements=20, budget_s=60.0).expected_s == 60.0
    assert CalibrationPlan(settings=MeasureSettings(), budget_s=60.0).expected_s == 60.0


def test_a_real_network_beside_itself_measures_one(agent: Agent) -> None:
    heard: list[Event] = []
    found = list(measured(agent, SKELETON, CalibrationPlan(settings=TOLD, measurements=1), listen=heard.append))

    taken = ratios_by_unit(found, CalibrationPlan(settings=TOLD, measurements=1))
    assert [single.unit for single in found] == list(UNITS)
    ratios = [ratio for of in taken.values() for ratio in of]
    assert len(ratios) == len(UNITS)
    assert all(0.2 < ratio.value < 5 and ratio.low <= ratio.value <= ratio.high for ratio in ratios)
    assert isinstance(heard[0], Stage)
    assert (heard[0].total, heard[-1]) == (
        round(CalibrationPlan(settings=TOLD, measurements=1).expected_s),
        StageProgress(heard[0].total),
    )


def test_a_budget_ends_it_before_a_measurement_that_does_not_fit(agent: Agent) -> None:
    plan = CalibrationPlan(
        settings=TOLD, budget_s=1.2 * CalibrationPlan(settings=TOLD, measurements=1).expected_of(UNITS[0])
    )
    found = list(measured(agent, SKELETON, plan, listen=lambda _: None))

    assert len(found) < len(UNITS)


def test_being_asked_to_stop_it_ends_before_the_next_process(agent: Agent) -> None:
    asked = itertools.count()
    plan = CalibrationPlan(settings=TOLD, measurements=1)
    run = measured(agent, SKELETON, plan, listen=lambda _: None, stopping=lambda: next(asked) > 1)

    assert [next(run).unit, next(run).unit] == list(UNITS[:2])
    with pytest.raises(StoppedError):
        next(run)


# ---------------------------------------------------------------- played back


@pytest.fixture(scope="module")
def each_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of a measurement of each of ``UNITS``."""

    def use(agent: Agent) -> None:
        for unit in UNITS:
            agent.measure(SKELETON, "skeleton", reference=(SKELETON, "skeleton"), settings=settings_of(unit, QUICK))

    return recorded(tmp_path_factory.mktemp("each-once"), use)


def spoilt(each_once: Path, which: Callable[[int], bool]) -> Iterator[Agent]:
    """An agent whose board is throttled in the measurements of some of ``UNITS``, counted from 0."""

    def change(number: int, raw: dict[str, Any]) -> None:
        raw["before"]["throttled"], raw["after"]["throttled"] = "0x0", "0x50005" if which(number) else "0x0"
        raw["before"].pop("cpu_busy_s", None)
        raw["during"] = []

    path = rewritten(each_once, change, board=True)
    with open_agent(tape(path)) as agent:
        yield agent


def test_an_invalid_measurement_has_no_ratio_and_spoils_no_other(each_once: Path) -> None:
    for agent in spoilt(each_once, lambda number: number in (0, 4)):
        plan = CalibrationPlan(settings=QUICK, measurements=1)
        found = list(measured(agent, SKELETON, plan, listen=lambda _: None))

        assert [number for number, single in enumerate(found) if single.ratio is None] == [0, 4]
        counts = {unit: len(ratios) for unit, ratios in ratios_by_unit(found, plan).items()}
        assert [unit for unit, count in counts.items() if count == 0] == [Unit(1.0), Unit(3.0, 3)]


def test_a_board_that_is_throttled_all_the_time_is_not_calibrated_now(each_once: Path) -> None:
    for agent in spoilt(each_once, lambda _: True):
        with pytest.raises(DeviceError, match=r"5 measurements in a row were invalid.*doctor.*then calibrate it again"):
            list(measured(agent, SKELETON, CalibrationPlan(settings=QUICK, measurements=1), listen=lambda _: None))
