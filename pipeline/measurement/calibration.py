"""Calibration of a device's intervals by A/A measurements, whose true ratio is 1.

Ninety-five in a hundred intervals should hold the 1, and about one pair of measurements in twenty should differ at the
5 % level, although nothing does. Both are counted for measurements as long as the search's, three and nine times as
long, in one process and over several, each share with a standard error: pairs that share a measurement are not
independent, so it comes from a bootstrap over measurements (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Len, Predicate
from numpy.typing import NDArray

from pipeline.measurement import intervals
from pipeline.measurement.between_processes import Spread, between_processes
from pipeline.records import Count, Device, DeviceFacts, Interval, MeasureSettings, Share

TRUTH = 1.0
"""What a network measures over itself."""
PROMISED = 0.95
"""Share of the intervals that should hold it."""
SEARCH = 1.0
"""How long a candidate of the search is measured; other lengths are given as multiples of it."""
TIMES = (SEARCH, 3.0, 9.0)
FEWEST = 5
"""Measurements of each length and kind that a calibration needs to be kept: fewer say next to nothing."""

_BOOTSTRAPS = 2000
_PAIRS = 0.6
"""Error of a share of right intervals' pairs, over that of as many independent cases as there are measurements:
simulated 0.5 to 0.8 for 10 to 40 measurements of 5 to 20 blocks."""
_SURE = 3.0
"""Standard errors by which a share has to be too small: there are six shares to be wrong about."""
_MOST_SPREAD = 10.0
"""Of a log ratio: a network that is 20 000 times as slow the next time. More is no measurement, but a damaged file."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One measurement: how long, over the search's, and in how many processes that share this time."""

    times: float
    processes: int = 1

    def __str__(self) -> str:
        """Return what is measured.

        >>> str(Unit(3.0, 5)), str(Unit(1.0))
        ('3 times as long, in 5 processes', 'as long as in the search, in one process')
        """
        length = "as long as in the search" if self.times == SEARCH else f"{self.times:g} times as long"
        return f"{length}, in {_processes(self.processes)}"


def units(processes: int) -> tuple[Unit, ...]:
    """Return what is measured: every length in one process, and spread over so many.

    >>> len(units(5)), len(units(1))
    (6, 3)
    """
    return tuple(Unit(times, count) for count in sorted({1, processes}) for times in TIMES)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of cases with its standard error."""

    value: Share
    error: Share

    def __str__(self) -> str:
        """Return both in percent.

        >>> str(Rate(0.0526, 0.031))
        '5.3 % ±3.1'
        """
        return f"{100 * self.value:.1f} % ±{100 * self.error:.1f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What became of the measurements of one length, by one kind of interval."""

    times: Annotated[float, Gt(0)]
    """Their length, over the search's."""
    processes: Count
    """That each was spread over, in the same time together."""
    widened: bool
    """Whether the interval has in it what differs from process to process on this device, as a run's has."""
    measurements: Count
    different: Rate
    """Of the pairs of measurements, those that ``stats.differ`` calls different."""
    covered: Rate
    """Of the intervals, those that hold the true ratio."""
    half_width: Annotated[float, Ge(0)]
    """Mean half-width of the intervals, over the ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a calibration holds for: on another board, with other settings, noise is another one."""

    address: str | None
    """``host:port``; None: this machine."""
    board: str
    cpu: str
    runtime: str
    """With its version: ``onnxruntime 1.22.0``."""
    settings: MeasureSettings
    modes: Mapping[str, Any] = field(default_factory=dict)
    """Power modes that the inventory asks for."""

    @classmethod
    def of(cls, device: Device, facts: DeviceFacts, settings: MeasureSettings) -> Conditions:
        """Return those of a device as it is now."""
        ssh, version = device.ssh, facts.runtimes.get(device.runtime, "")
        return cls(
            address=None if ssh is None else f"{ssh.host}:{ssh.port}", board=facts.board, cpu=facts.cpu,
            runtime=f"{device.runtime} {version}".strip(), settings=settings, modes=dict(device.modes),
        )  # fmt: skip

    def as_named(self) -> dict[str, object]:
        """Return all that has to be the same, each by what it is called."""
        settings = self.settings
        return {
            "address": self.address, "board": self.board, "processor": self.cpu, "runtime": self.runtime,
            "set of power modes": dict(self.modes), "number of threads": settings.threads,
            "affinity": settings.affinity, "spinning": settings.spinning, "block_s": settings.block_s,
            "min_s": settings.min_s,
        }  # fmt: skip


def _is_sound(spread: Spread) -> bool:
    return all(0 <= sd <= _MOST_SPREAD for sd in (spread.total, spread.within)) and spread.freedom >= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a network measured against itself on one device, and what that says of the device's intervals."""

    device: str
    kind: str
    date: str
    """When it ended, ISO 8601 with the time zone."""
    model: str
    conditions: Conditions
    checked: Annotated[tuple[Checked, ...], Len(1)]
    spread: Annotated[Spread, Predicate(_is_sound)]
    """From process to process, over all lengths."""
    invalid: Annotated[int, Ge(0)] = 0
    """Quarantined measurements: something else was going on."""

    @property
    def measurements(self) -> int:
        """How many there are of the length and kind that has the fewest."""
        return min(checked.measurements for checked in self.checked)

    def misfit(self, now: Conditions) -> str | None:
        """Return why the calibration does not hold for a device as it is now; None: it does.

        The first thing that differs is named, with what it was and what it is.
        """
        then, today = self.conditions.as_named(), now.as_named()
        name = next((name for name in then if then[name] != today[name]), None)
        return None if name is None else f"of another {name}: {_shown(then[name])}, now {_shown(today[name])}"

    def short(self) -> str:
        """Return the intervals of runs that surely hold the truth too seldom, in words; empty where none do."""
        bad = [checked for checked in self.printed if checked.covered.value + _SURE * checked.covered.error < PROMISED]
        return ", ".join(
            f"{checked.covered} at {checked.times:g}× in {_processes(checked.processes)}" for checked in bad
        )

    @property
    def printed(self) -> list[Checked]:
        """What became of intervals as runs print them: a process's widened, or those of several."""
        return [checked for checked in self.checked if checked.widened or checked.processes > 1]

    def __str__(self) -> str:
        """Return the calibration in a sentence."""
        day, spread = self.date.partition("T")[0], self.spread
        return (
            f"{day} with {self.model}: ratios differ by {100 * spread.between:.2g} % from process to process; pairs of"
            f" the same network called different: {self._rates('different')}; intervals that hold the truth:"
            f" {self._rates('covered')}"
        )

    def _rates(self, name: str) -> str:
        """Return the rates of the intervals that runs print, a length each, of one process and of several."""
        groups = itertools.groupby(self.printed, key=lambda checked: checked.processes)
        parts = [(processes, ", ".join(f"{100 * getattr(c, name).value:.0f}" for c in of)) for processes, of in groups]
        return ", ".join(f"{rates} % in {_processes(processes)}" for processes, rates in parts)


def calibration(
    taken: Mapping[Unit, Sequence[Interval]],
    *,
    device: Device,
    conditions: Conditions,
    model: str,
    date: str,
    invalid: int = 0,
) -> Calibration:
    """Return what the ratios of a network over itself say of the intervals.

    Args:
        taken: the ratios, a measurement each; at least two of every unit.
        device: on which they were taken.
        conditions: what held meanwhile.
        model: the network's name.
        date: when that was.
        invalid: quarantined measurements.

    Raises:
        ValueError: there are fewer, so that nothing is known of what they differ by.
    """
    if fewest(taken) < 2:
        raise ValueError(f"a calibration takes two measurements of each length at least, found {fewest(taken)}")
    single = {unit: ratios for unit, ratios in taken.items() if unit.processes == 1}
    several = {unit: ratios for unit, ratios in taken.items() if unit.processes > 1}
    spread = between_processes([ratio for ratios in single.values() for ratio in ratios])
    assert spread is not None  # of two measurements at least
    widened = {unit: [spread.widened(ratio) for ratio in ratios] for unit, ratios in single.items()}
    return Calibration(
        device=device.name, kind=device.kind, date=date, model=model, conditions=conditions, spread=spread,
        invalid=invalid,
        checked=(
            *(checked(unit, ratios) for unit, ratios in single.items()),
            *(checked(unit, ratios, widened=True) for unit, ratios in widened.items()),
            *(checked(unit, ratios) for unit, ratios in several.items()),
        ),
    )  # fmt: skip


def fewest(taken: Mapping[Unit, Sequence[Interval]]) -> int:
    """Return how many measurements there are of the unit that has the fewest."""
    return min(map(len, taken.values()), default=0)


def checked(unit: Unit, ratios: Sequence[Interval], *, widened: bool = False) -> Checked:
    """Return what became of measurements of one length, two at least."""
    return Checked(
        times=unit.times, processes=unit.processes, widened=widened, measurements=len(ratios),
        different=different(ratios), covered=covered(ratios),
        half_width=float(np.mean([ratio.half_width / ratio.value for ratio in ratios])),
    )  # fmt: skip


def different(ratios: Sequence[Interval]) -> Rate:
    """Return the share of pairs that are called different at the 5 % level; two measurements at least.

    >>> different([Interval(1.0, 0.99, 1.01), Interval(1.0, 0.99, 1.01), Interval(1.1, 1.09, 1.11)]).value
    0.6666666666666666
    """
    count = len(ratios)
    called = np.array([[intervals.differ(one, other) for other in ratios] for one in ratios], dtype=np.float64)
    picks = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_BOOTSTRAPS).astype(np.float64)
    pairs = count**2 - (picks**2).sum(axis=1)  # of different measurements: one beside itself is no pair
    some = pairs > 0
    shares = ((picks @ called) * picks).sum(axis=1)[some] / pairs[some]
    return Rate(float(called.sum() / (count * (count - 1))), _error(shares, _PAIRS * _least(count)))


def covered(ratios: Sequence[Interval]) -> Rate:
    """Return the share of intervals that hold the true ratio.

    >>> covered([Interval(1.0, 0.99, 1.01), Interval(1.02, 1.01, 1.03)]).value
    0.5
    """
    holds = np.array([ratio.low <= TRUTH <= ratio.high for ratio in ratios], dtype=np.float64)
    picks = np.random.default_rng(0).integers(0, len(holds), size=(_BOOTSTRAPS, len(holds)))
    return Rate(float(holds.mean()), _error(holds[picks].mean(axis=1), _least(len(holds))))


def _error(bootstrapped: NDArray[np.float64], least: float) -> float:
    """Return a share's standard error, which is never nought: where all cases are alike, a bootstrap sees no spread."""
    return max(float(bootstrapped.std(ddof=1)), least)


def _least(count: int) -> float:
    """Return the standard error of the share that the next case has, by Laplace's rule, where all so far are alike."""
    next_one = 1 / (count + 2)
    return math.sqrt(next_one * (1 - next_one) / count)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {mode}" for key, mode in value.items()) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"
