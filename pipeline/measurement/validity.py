"""Validity flags of a measurement: imprecise or invalid.

An *imprecise* figure is right, but its interval is wide or it rests on few samples. An *invalid* one was taken while
something else was going on: it would teach the search a falsehood, so it is repeated, and if that does not help it is
quarantined.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.records import Measurement

IMPRECISE: Mapping[str, str] = {
    "noisy": "the interval is wider than was asked for",
    "few_samples": "too few inferences, blocks or power samples for the figures that rest on them",
    "power_noisy": "the interval of energy over the base model's, or of power alone, is wider than was asked for",
}
INVALIDATING: Mapping[str, str] = {
    "throttled": "the firmware slowed the processor down",
    "undervoltage": "the supply fell under the firmware's alarm",
    "clock_changed": "the clock fell while the candidate ran",
    "temperature_rise": "the board became more than 10 °C hotter while the candidate ran",
    "competing_load": "other programs used the processor",
    "gaps": "the sensor left out more than five of its cycles",
    "odd_readings": "more than one in twenty of the sensor's readings could not be true",
    "blocks_too_short": "the sensor is too slow for blocks of this length",
    "idle_drift": "the board's idle power was another one before and after",
}

ODD_READINGS = 0.05
"""Of a sensor's readings, those that were dropped as impossible: more, and what is left may be a choice of its own."""
CLOCK_DROP = 0.10
"""A smaller fall is a normal turbo-clock fluctuation, and candidate and reference share it, block by block. Steps under
throttling are larger: 1500 to 1000 MHz on a Raspberry Pi 4."""
TEMPERATURE_RISE_C = 10.0
OTHERS_BESIDE_POWER = 0.5
"""Cores that others may keep busy while power is measured: theirs is measured as well."""
OTHERS_BESIDE_LATENCY = 0.3
"""Cores that others may keep busy beyond those that the runtime leaves free."""

_UNDERVOLTAGE = 0x10001
_SLOWED = 0xE000E
"""Raspberry Pi's get_throttled: bit 0 under-voltage, 1 clock capped, 2 throttled, 3 soft temperature limit; 16-19 the
same since boot."""
_NOW = 0xF


def invalid(flags: Iterable[str]) -> tuple[str, ...]:
    """Return those flags that make a measurement useless.

    >>> invalid(("noisy", "throttled"))
    ('throttled',)
    """
    return tuple(flag for flag in flags if flag in INVALIDATING)


def why_invalid(measurement: Measurement) -> tuple[str, ...]:
    """Return the flags that make this measurement useless, less those that were tolerated when it was taken."""
    tolerated = measurement.conditions.get("tolerated", ())
    return tuple(flag for flag in invalid(measurement.flags) if flag not in tolerated)


def flags_of(before: Mapping[str, Any], during: Sequence[Mapping[str, Any]], after: Mapping[str, Any]) -> list[str]:
    """Return why the board's own state makes the figures doubtful.

    Args:
        before, after: telemetry at rest, just before and just after.
        during: telemetry between the blocks, about one a second.

    >>> flags_of({"throttled": "0x50000"}, [], {"throttled": "0x50000"})
    []
    >>> flags_of({"throttled": "0x0", "clock_mhz": 1500}, [], {"throttled": "0x50005", "clock_mhz": 1000})
    ['throttled', 'undervoltage', 'clock_changed']
    >>> flags_of({"temperature_c": 40.0}, [{"temperature_c": 55.0}], {"temperature_c": 61.0})
    []
    """
    flags = []
    states = [before, *during, after]
    raised = _raised([state.get("throttled") for state in states])
    flags += ["throttled"] * bool(raised & _SLOWED) + ["undervoltage"] * bool(raised & _UNDERVOLTAGE)
    if _fell([state.get("clock_mhz") for state in (during if len(during) > 2 else states)]):
        flags.append("clock_changed")
    warm, hot = (during[0] if during else before).get("temperature_c"), after.get("temperature_c")
    if warm is not None and hot is not None and hot - warm > TEMPERATURE_RISE_C:
        flags.append("temperature_rise")
    return flags


def background_cores(
    before: Mapping[str, Any], after: Mapping[str, Any], own_cpu_s: float | None, wall_s: float | None
) -> float | None:
    """Return how many cores other programs kept busy between two looks at a board; None where nobody can tell.

    Args:
        before, after: telemetry.
        own_cpu_s: processor time that the measurement itself took meanwhile.
        wall_s: time between the looks.
    """
    start, end = before.get("cpu_busy_s"), after.get("cpu_busy_s")
    if start is None or end is None or own_cpu_s is None or not wall_s:
        return None
    return max(0.0, float(end) - float(start) - own_cpu_s) / wall_s


def allowed_others(cores: int, threads: int, *, power: bool) -> float:
    """Return how many cores others may keep busy before a measurement is invalid.

    >>> allowed_others(4, 1, power=False), allowed_others(4, 1, power=True), allowed_others(4, 4, power=True)
    (3.3, 0.5, 0.3)
    """
    free = max(0, cores - threads) + OTHERS_BESIDE_LATENCY
    return min(free, OTHERS_BESIDE_POWER) if power else free


def _raised(states: Sequence[object]) -> int:
    """Return the bits that tell of now at any time, and those since boot that were not there at first."""
    bits = [int(state, 16) if isinstance(state, str) else 0 for state in states]
    seen = 0
    for state in bits:
        seen |= state
    return seen & _NOW | seen & ~_NOW & ~bits[0]


def _fell(clocks_mhz: Sequence[float | None]) -> bool:
    """Return whether the clock of the last third is lower than that of the first."""
    known = [clock for clock in clocks_mhz if clock]
    third = max(1, len(known) // 3)
    if len(known) < 2:
        return False
    return statistics.median(known[-third:]) < (1 - CLOCK_DROP) * statistics.median(known[:third])
