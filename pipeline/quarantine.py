"""What becomes of an invalid measurement: it is taken again, twice at most, and then put aside, never silently used.

Whoever measures on the machine that they work on shares it with everything else that runs there. Candidate and base
model take turns within fractions of a second, so what slows the whole machine slows both alike: the ratio stays true,
and its interval says how sure it is. On this machine, and there alone, such flags are therefore *tolerated* where no
power is measured: they are kept and shown, and named in the measurement's conditions. Other programs' power cannot be
told from the candidate's: with a sensor nothing is tolerated, nor on a board, which can be had for oneself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from pipeline.doubts import INVALIDATING, why_invalid
from pipeline.pooling import less_doubtful
from pipeline.records import Measurement

_log = logging.getLogger(__name__)

REPEATS = 2
COOLING_S = 60.0
"""A repeat waits until the board has cooled, but not longer."""
SHARED = frozenset({"clock_changed", "temperature_rise", "competing_load"})
"""What a machine's own user does to it, and what it does to candidate and base model alike."""

Take = Callable[[float], Measurement]
"""Measures after having waited, so many seconds at most, for the board to cool."""


def taken(measure: Take, *, tolerant: bool) -> Measurement:
    """Return a measurement; an imprecise one is taken once more, an invalid one up to ``REPEATS`` times.

    ``why_invalid`` says whether even the best of them is of no use; how often it was taken stands in its conditions.
    """
    found = _tolerated(measure(0.0), tolerant)
    times = 1
    while times <= REPEATS and _again(found, times):
        if why := why_invalid(found):
            _log.info("invalid (%s): measuring again, %d of %d", ", ".join(why), times, REPEATS)
        found = less_doubtful(found, _tolerated(measure(COOLING_S if why else 0.0), tolerant))
        times += 1
    return found if times == 1 else replace(found, conditions={**found.conditions, "times_measured": times})


def told(measurement: Measurement) -> str:
    """Return what happened to a measurement of no use.

    >>> told(Measurement(p50_ms=None, p90_ms=1, p99_ms=1, mean_ms=1, inferences=1, ratio=None, power=None,
    ...                  flags=("throttled",), conditions={"times_measured": 3}))  # type: ignore[arg-type]
    'quarantined: throttled, measured 3 times'
    """
    times = measurement.conditions.get("times_measured", 1)
    often = "once" if times == 1 else f"{times} times"
    return f"quarantined: {', '.join(why_invalid(measurement))}, measured {often}"


def mend(name: str, *, tolerant: bool) -> str:
    """Return what to do about a device that gives nothing but invalid measurements."""
    if tolerant:
        return (
            "something else keeps this machine too busy or too hot: close other programs, plug a laptop in, measure "
            "without power (`power: null` in inventory.yaml), or on a board (--device NAME)"
        )
    return f"`pipeline devices doctor {name}` finds out what disturbs it, and says how to mend it"


def explained(measurement: Measurement) -> str:
    """Return what the invalidating flags mean, in words."""
    return "; ".join(INVALIDATING[flag] for flag in why_invalid(measurement))


def _again(found: Measurement, times: int) -> bool:
    if why_invalid(found):
        return True
    return bool(found.flags) and not found.early and times == 1


def _tolerated(found: Measurement, tolerant: bool) -> Measurement:
    shared = sorted(SHARED.intersection(found.flags))
    if not (tolerant and shared) or found.power is not None:
        return found
    return replace(found, conditions={**found.conditions, "tolerated": shared})
