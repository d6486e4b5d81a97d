"""The agent's raw samples become a ``Measurement``: every statistic and every doubt about it is computed here.

What the agent returns is documented in its ``measure.py``. It comes from a board, so nothing in it is believed before
it was looked at: ``measurement`` raises ValueError for what is missing, is no number, or contradicts itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import stats
from pipeline.records import Interval, Measurement, Power
from pipeline.stats import Floats, PowerTrace

FEWEST_INFERENCES = 30
"""Under this many runs a p99 is hardly more than the slowest one."""
FEWEST_POWER_SAMPLES = 10
CLOCK_DROP = 0.05
"""Only a clock that fell is a doubt: `before` is read at rest, where a governor may have it low."""
IDLE_DRIFT = 0.05
TEMPERATURE_RISE_C = 10.0
GAP_CYCLES = 5.0
CYCLES_PER_BLOCK = 10.0
"""In shorter blocks a sensor mixes the candidate's power with that of whatever ran before."""

_THROTTLED_NOW = 0x0000F
"""Bits 0-3 of the Raspberry Pi firmware's get_throttled: under-voltage, capped, throttled, soft temperature limit."""
_THROTTLED_SINCE_BOOT = 0xF0000
"""Bits 16-19: the same, has occurred since boot; they stick, so only a new one counts."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive runs of one model: when they began and ended, and how long each took."""

    start_s: float
    end_s: float
    ms: Floats


def measurement(raw: Mapping[str, Any], *, ci_rel: float, bytes_sent: int = 0, seconds: float = 0.0) -> Measurement:
    """Return the figures behind one reply to ``measure``.

    Raises:
        ValueError: the reply lacks samples, or they cannot be true.
    """
    try:
        return _measurement(raw, ci_rel, bytes_sent, seconds)
    except (KeyError, TypeError, IndexError) as e:
        raise ValueError(f"the reply to measure lacks what it should hold: {e!r}") from e


def flags_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return why the board's own state makes the figures doubtful.

    >>> flags_of({"throttled": "0x50000"}, {"throttled": "0x50000"})
    []
    >>> flags_of({"throttled": "0x0", "clock_mhz": 1500}, {"throttled": "0x50005", "clock_mhz": 1000})
    ['throttled', 'clock_changed']
    >>> flags_of({"temperature_c": 40.0}, {"temperature_c": 61.0})
    ['temperature_rise']
    """
    flags = []
    if _throttled(before.get("throttled"), after.get("throttled")):
        flags.append("throttled")
    first, last = before.get("clock_mhz"), after.get("clock_mhz")
    if first and last and last < (1 - CLOCK_DROP) * first:
        flags.append("clock_changed")
    cool, warm = before.get("temperature_c"), after.get("temperature_c")
    if cool is not None and warm is not None and warm - cool > TEMPERATURE_RISE_C:
        flags.append("temperature_rise")
    return flags


def _measurement(raw: Mapping[str, Any], ci_rel: float, bytes_sent: int, seconds: float) -> Measurement:
    blocks = _blocks(raw["candidate"])
    reference = _blocks(raw["reference"]) if raw.get("reference") else None
    samples = np.concatenate([b.ms for b in blocks])
    p50 = stats.median_interval([b.ms for b in blocks])
    ratio = stats.ratio_interval([b.ms for b in blocks], [b.ms for b in reference]) if reference else None
    after = raw["after"]
    flags = flags_of(raw["before"], after)
    if len(samples) < FEWEST_INFERENCES or len(blocks) < stats.FEWEST_BLOCKS:
        flags.append("few_samples")
    # What slows both nets down alike leaves the ratio sharp; then the figure that counts is good.
    sharp = [i for i in (p50, ratio) if i is not None and i.half_width <= ci_rel * i.value]
    if not sharp:
        flags.append("noisy")
    power, power_ratio, energy_ratio = None, None, None
    if raw.get("power"):
        power, doubts = _power(raw["power"], blocks, _idle(raw), ci_rel)
        flags += doubts
        if reference:
            power_ratio, energy_ratio = _ratios(raw["power"], blocks, reference)
    p90, p99 = stats.percentiles(samples, [90, 99])
    return Measurement(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=float(samples.mean()),
        inferences=len(samples),
        ratio=ratio,
        power=power,
        power_ratio=power_ratio,
        energy_ratio=energy_ratio,
        peak_memory_mb=_number_or_none(raw.get("peak_rss_mb")),
        load_ms=_number_or_none(raw["candidate"].get("load_ms")),
        temperature_c=_number_or_none(after.get("temperature_c")),
        clock_mhz=_number_or_none(after.get("clock_mhz")),
        flags=tuple(dict.fromkeys(flags)),
        runtime=str(raw.get("runtime", "")),
        threads=int(raw.get("threads", 1)),
        bytes_sent=bytes_sent,
        seconds=seconds,
    )


def _blocks(model: Mapping[str, Any]) -> list[Block]:
    blocks = [Block(float(b["start_s"]), float(b["end_s"]), _floats(b["ms"])) for b in model["blocks"] if b["ms"]]
    if not blocks:
        raise ValueError("the reply to measure holds no latency samples")
    for block in blocks:
        if not (block.end_s > block.start_s and block.ms.min() > 0):
            raise ValueError("the reply to measure holds a block without duration")
    return blocks


def _floats(values: Sequence[Any]) -> Floats:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("the reply to measure holds samples that are no numbers")
    return array


def _number_or_none(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _idle(raw: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in raw.get("idle") or ()]


def _trace(raw: Mapping[str, Any]) -> PowerTrace:
    """Return the samples, each moved to the middle of the time that its value covers."""
    return PowerTrace(_floats(raw["t_s"]) - float(raw.get("interval_s") or 0) / 2, _floats(raw["w"]))


def _power(
    raw: Mapping[str, Any], blocks: Sequence[Block], idle: Sequence[tuple[float, float]], ci_rel: float
) -> tuple[Power, list[str]]:
    """Return power and energy over the blocks, and the doubts about them.

    Dynamic energy takes the mean of the idle windows off; its interval is that of the active power alone.
    """
    trace = _trace(raw)
    active = [b for b in blocks if trace.covers(b.start_s, b.end_s)]
    if not active:
        raise ValueError("no power samples while the candidate ran")
    seconds = np.array([b.end_s - b.start_s for b in active])
    runs = np.array([len(b.ms) for b in active])
    energy_j = np.array([trace.energy_j(b.start_s, b.end_s) for b in active])
    rests = [trace.mean_w(*window) for window in idle if trace.covers(*window)]
    idle_w = float(np.mean(rests)) if rests else None
    samples = sum(trace.inside(b.start_s, b.end_s) for b in active)
    mean_w = _weighted(energy_j, seconds)
    power = Power(
        mean_w=mean_w,
        idle_w=idle_w,
        energy_total_mj=_weighted(energy_j * 1e3, runs),
        energy_dynamic_mj=None if idle_w is None else _weighted((energy_j - idle_w * seconds) * 1e3, runs),
        source=str(raw["source"]),
        scope=_scope(raw["scope"]),
        samples=samples,
    )
    doubts = {
        "few_samples": samples < FEWEST_POWER_SAMPLES,
        "gaps": max(trace.gap_s(b.start_s, b.end_s) for b in active) > GAP_CYCLES * trace.cycle_s,
        "blocks_too_short": float(np.median(seconds)) < CYCLES_PER_BLOCK * trace.cycle_s,
        "idle_drift": len(rests) > 1 and max(rests) - min(rests) > IDLE_DRIFT * float(np.mean(rests)),
        "power_noisy": mean_w.half_width > ci_rel * mean_w.value,
    }
    return power, [name for name, doubtful in doubts.items() if doubtful]


def _weighted(totals: Floats, weights: NDArray[Any]) -> Interval:
    """Return sum over sum, with the interval that the blocks' own quotients give."""
    value = float(totals.sum() / weights.sum())
    spread = stats.mean_interval(totals / weights)
    return Interval(value, value - (spread.value - spread.low), value + (spread.high - spread.value))


def _ratios(raw: Mapping[str, Any], blocks: Sequence[Block], reference: Sequence[Block]) -> tuple[float, float]:
    """Return mean power and energy an inference, candidate over reference."""
    trace = _trace(raw)
    (power, energy), (base_power, base_energy) = (_totals(trace, b) for b in (blocks, reference))
    return power / base_power, energy / base_energy


def _totals(trace: PowerTrace, blocks: Sequence[Block]) -> tuple[float, float]:
    """Return the mean power in watts and the energy an inference in joules over the blocks that the trace covers."""
    covered = [b for b in blocks if trace.covers(b.start_s, b.end_s)]
    if not covered:
        raise ValueError("no power samples while the reference ran")
    energy = sum(trace.energy_j(b.start_s, b.end_s) for b in covered)
    return energy / sum(b.end_s - b.start_s for b in covered), energy / sum(len(b.ms) for b in covered)


def _scope(value: object) -> Literal["module", "board", "package"]:
    if value == "module" or value == "board" or value == "package":  # spelled out: `in` does not narrow the type
        return value
    raise ValueError(f"unknown scope of power {value!r}")


def _throttled(before: object, after: object) -> bool:
    old, new = (int(v, 16) if isinstance(v, str) else 0 for v in (before, after))
    return bool((old | new) & _THROTTLED_NOW or new & ~old & _THROTTLED_SINCE_BOOT)
