"""A/A test: a network measured against itself, as long as in the search, three and nine times as long.

Lengths and kinds follow each other in rounds, each of which begins with another one, so that whatever the board drifts
by in an hour falls on all of them alike.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline.devices.agent_client import Agent
from pipeline.errors import DeviceError, StoppedError
from pipeline.evaluation.device_bench import longer, one_process_of
from pipeline.events import Listener, Stage, StageProgress
from pipeline.measurement import retries
from pipeline.measurement.calibration import Unit, units
from pipeline.measurement.combining import combined
from pipeline.measurement.validity import why_invalid
from pipeline.records import Interval, Measurement, MeasureSettings

START_S = 0.7
"""To start a process and load a network twice; for the estimate before the first round."""
_FEWEST_BLOCKS = 5
"""The agent measures no fewer, however short."""
_INVALID = 5
"""After so many invalid measurements in a row the board is not one to be calibrated now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPlan:
    """How much is measured; what ends first ends it."""

    settings: MeasureSettings
    measurements: int | None = None
    """Of each length and kind."""
    budget_s: float | None = None

    @property
    def round(self) -> tuple[Unit, ...]:
        """One measurement of each length, in one process and in several."""
        return units(self.settings.processes)

    @property
    def round_s(self) -> float:
        """About how long these take."""
        return sum(map(self.expected_of, self.round))

    def expected_of(self, unit: Unit) -> float:
        """Return about how many seconds one takes: starts, warm-up, and blocks in turns with the reference."""
        settings = self.settings
        active_s = max(settings_of(unit, settings).min_s, _FEWEST_BLOCKS * settings.block_s)
        return unit.processes * (START_S + 2 * settings.warmup_s + 2 * active_s)

    @property
    def expected_s(self) -> float:
        """About how long all of it takes."""
        measured_s = None if self.measurements is None else self.measurements * self.round_s
        return min(seconds for seconds in (measured_s, self.budget_s) if seconds is not None)

    def units(self) -> Iterator[Unit]:
        """Yield what is to be measured, without end where only the time limits it."""
        rounds = itertools.count() if self.measurements is None else range(self.measurements)
        whole = self.round
        for number in rounds:
            first = number % len(whole)
            yield from whole[first:] + whole[:first]


@dataclass(frozen=True, slots=True)
class SelfMeasurement:
    """One measurement's ratio; None: it was invalid."""

    unit: Unit
    ratio: Interval | None


def measured(
    agent: Agent,
    skeleton: bytes,
    plan: CalibrationPlan,
    *,
    listen: Listener,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[SelfMeasurement]:
    """Yield each measurement as soon as it is done.

    Args:
        agent: of a board that is held.
        skeleton: the network's skeleton.
        plan: how much is measured.
        listen: hears how far it has come, in seconds, and how long it will still take.
        stopping: asked before each process.

    Raises:
        StoppedError: the user has asked to stop.
        DeviceError, MeasureError: the board, or the network on it, failed, or too many measurements are invalid.
    """
    pace, invalid = _Pace(plan), 0
    listen(Stage("Measure the network against itself (seconds)", round(plan.expected_s)))
    for number, unit in enumerate(plan.units()):
        if pace.is_over(unit):
            return
        listen(StageProgress(round(pace.done_s), f"round {number // len(plan.round) + 1}, {unit}; {pace.left}"))
        parts = list(_parts(agent, skeleton, unit, stopping))
        pace.took(unit)
        why = why_invalid(parts[-1])
        invalid = invalid + 1 if why else 0
        if invalid >= _INVALID:
            raise _not_now(agent, parts[-1])
        yield SelfMeasurement(unit, None if why else combined(parts, ci_rel=plan.settings.ci_rel / unit.times).ratio)
    listen(StageProgress(round(plan.expected_s)))


def ratios_by_unit(found: Iterable[SelfMeasurement], plan: CalibrationPlan) -> dict[Unit, list[Interval]]:
    """Return the valid ratios of every unit, in their order."""
    taken: dict[Unit, list[Interval]] = {unit: [] for unit in plan.round}
    for single in found:
        if single.ratio is not None:
            taken[single.unit].append(single.ratio)
    return taken


def settings_of(unit: Unit, settings: MeasureSettings) -> MeasureSettings:
    """Return the settings of each of a unit's processes; as a run has them."""
    return one_process_of(replace(longer(settings, unit.times), processes=unit.processes))


def _parts(agent: Agent, skeleton: bytes, unit: Unit, stopping: Callable[[], bool]) -> Iterator[Measurement]:
    """Yield a measurement's processes; an invalid one is the last."""
    settings = settings_of(unit, agent.device.measure)
    for _ in range(unit.processes):
        if stopping():
            raise StoppedError("stopped as requested")
        part = retries.measure_with_retries(
            lambda settle_s: agent.measure(
                skeleton, "skeleton", reference=(skeleton, "skeleton"),
                settings=replace(settings, settle_s=max(settings.settle_s, settle_s)),
            ),
            tolerant=agent.shared, ci_rel=settings.ci_rel, exact=False,
        )  # fmt: skip
        yield part
        if why_invalid(part):
            return


def _not_now(agent: Agent, last: Measurement) -> DeviceError:
    name = agent.device.name
    return DeviceError(
        f"{name}: {_INVALID} measurements in a row were invalid, the last {retries.describe_quarantine(last)}: "
        f"{retries.explain_flags(last)}; {retries.fix_hint(name, tolerant=agent.shared)}; then calibrate it again"
    )


class _Pace:
    """How long measurements take, over what was expected of them."""

    def __init__(self, plan: CalibrationPlan) -> None:
        self._plan = plan
        self._start = time.monotonic()
        self._expected_s = 0.0
        """Of what is done."""

    def took(self, unit: Unit) -> None:
        """Note that a measurement is done."""
        self._expected_s += self._plan.expected_of(unit)

    def is_over(self, unit: Unit) -> bool:
        """Return whether the next measurement does not fit into the time any more."""
        budget_s = self._plan.budget_s
        return budget_s is not None and self._elapsed_s + self._factor * self._plan.expected_of(unit) > budget_s

    @property
    def done_s(self) -> float:
        """How far it has come, of the seconds estimated beforehand."""
        return self._elapsed_s if self._plan.measurements is None else self._expected_s

    @property
    def left(self) -> str:
        """How long it will still take, in words."""
        left_s = []
        if self._plan.measurements is not None:
            whole_s = self._plan.measurements * self._plan.round_s
            left_s.append(self._factor * (whole_s - self._expected_s))
        if self._plan.budget_s is not None:
            left_s.append(self._plan.budget_s - self._elapsed_s)
        return f"{about(max(0.0, min(left_s)))} left"

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start

    @property
    def _factor(self) -> float:
        return self._elapsed_s / self._expected_s if self._expected_s else 1.0


def about(seconds: float) -> str:
    """Return a time as one says it.

    >>> about(42.4), about(700.0), about(6000.0)
    ('about 42 s', 'about 12 min', 'about 1.7 h')
    """
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
