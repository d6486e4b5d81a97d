"""Retries and quarantine: invalid measurements are repeated, then set aside.

Whoever measures on the machine that they work on shares it with everything else that runs there. Candidate and base
model take turns within fractions of a second, so what slows the whole machine slows both alike: the ratio stays true,
and its interval says how sure it is. On this machine, and there alone, such flags are therefore *tolerated* where no
power is measured: they are kept and shown, and named in the measurement's conditions. Other programs' power cannot be
distinguished from the candidate's: with a sensor nothing is tolerated, nor on a board, which can be had for oneself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pipeline.measurement.combining import combined, select_more_valid
from pipeline.measurement.validity import INVALIDATING, why_invalid
from pipeline.records import Measurement

_log = logging.getLogger(__name__)

REPEATS = 2
COOLING_S = 60.0
"""A repeat waits until the board has cooled, but not longer."""
SHARED = frozenset({"clock_changed", "temperature_rise", "competing_load"})
"""What a machine's own user does to it, and what it does to candidate and base model alike."""

Take = Callable[[float], Measurement]
"""Measures after having waited, so many seconds at most, for the board to cool."""


class Passes(Protocol):
    """Where the passes of one measurement are kept while it is taken, so that a killed run repeats none of them."""

    def recall(self, number: int) -> Measurement | None:
        """Return a pass that was taken before the run was resumed; they count from 1."""

    def remember(self, number: int, measurement: Measurement) -> None:
        """Keep a pass that another one follows."""


class _Nowhere:
    def recall(self, number: int) -> None:
        del number

    def remember(self, number: int, measurement: Measurement) -> None:
        del number, measurement


NOWHERE: Passes = _Nowhere()
"""Keeps nothing."""


def measure_with_retries(
    measure: Take, *, tolerant: bool, ci_rel: float, exact: bool = True, passes: Passes = NOWHERE
) -> Measurement:
    """Return a measurement; an imprecise one is taken once more and both count, an invalid one up to ``REPEATS`` times.

    ``why_invalid`` says whether even the best of them is of no use; how often it was taken stands in its conditions.

    Args:
        measure: takes it.
        tolerant: the machine is the user's own.
        ci_rel: half-width that was asked for, over the figure.
        exact: False: an imprecise one is as good as any, since more of the same network follow.
        passes: where the passes are kept.
    """
    latest = _pass(measure, 0.0, 1, passes)
    found = _tolerated(latest, tolerant)
    times = 1
    while times <= REPEATS and (why_invalid(found) or (exact and times == 1 and _imprecise(found))):
        passes.remember(times, latest)
        if why := why_invalid(found):
            _log.info("invalid (%s): measuring again, %d of %d", ", ".join(why), times, REPEATS)
        times += 1
        latest = _pass(measure, COOLING_S if why else 0.0, times, passes)
        found = _together(found, _tolerated(latest, tolerant), ci_rel)
    return found if times == 1 else replace(found, conditions={**found.conditions, "times_measured": times})


def _pass(measure: Take, settle_s: float, number: int, passes: Passes) -> Measurement:
    known = passes.recall(number)
    return measure(settle_s) if known is None else known


def describe_quarantine(measurement: Measurement) -> str:
    """Return what happened to a measurement of no use.

    >>> found = Measurement(p50_ms=None, p90_ms=1, p99_ms=1, mean_ms=1, inferences=1, ratio=None, power=None,
    ...                     flags=("throttled",), conditions={"times_measured": 3})  # type: ignore[arg-type]
    >>> describe_quarantine(found)
    'quarantined: throttled, measured 3 times'
    """
    times = measurement.conditions.get("times_measured", 1)
    often = "once" if times == 1 else f"{times} times"
    return f"quarantined: {', '.join(why_invalid(measurement))}, measured {often}"


def fix_hint(name: str, *, tolerant: bool) -> str:
    """Return what to do about a device that gives nothing but invalid measurements."""
    if tolerant:
        return (
            "something else keeps this machine too busy or too hot: close other programs, plug a laptop in, measure "
            "without power (`power: null` in inventory.yaml), or on a board (--device NAME)"
        )
    return f"`pipeline devices doctor {name}` finds out what disturbs it, and says how to fix it"


def explain_flags(measurement: Measurement) -> str:
    """Return what the invalidating flags mean, in words."""
    return "; ".join(INVALIDATING[flag] for flag in why_invalid(measurement))


def _imprecise(found: Measurement) -> bool:
    return bool(found.flags) and not found.early


def _together(found: Measurement, latest: Measurement, ci_rel: float) -> Measurement:
    """Return what two passes say: both of them if both are sound, else the one with fewer doubts."""
    if why_invalid(found) or why_invalid(latest) or latest.early:
        return select_more_valid(found, latest)
    return combined([found, latest], ci_rel=ci_rel)


def _tolerated(found: Measurement, tolerant: bool) -> Measurement:
    shared = sorted(SHARED.intersection(found.flags))
    if not (tolerant and shared) or found.power is not None:
        return found
    return replace(found, conditions={**found.conditions, "tolerated": shared})
