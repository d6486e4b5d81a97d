"""Two measurements of one network: both count, or the one with fewer doubts."""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.doubts import why_invalid
from pipeline.records import Interval, Measurement, Power


def less_doubtful(first: Measurement, second: Measurement) -> Measurement:
    """Return the measurement with fewer doubts, the second of equals; what both cost is added up.

    What makes a measurement useless counts before what makes it imprecise. Which one is taken depends on the doubts
    alone, never on the figures.
    """
    chosen = first if _doubts(first) < _doubts(second) else second
    return replace(
        chosen, bytes_sent=first.bytes_sent + second.bytes_sent, seconds=first.seconds + second.seconds
    )  # fmt: skip


def pooled(one: Measurement, other: Measurement) -> Measurement:
    """Return what two measurements of one network say together, each in proportion to its inferences.

    A pooled percentile lies between the two; of p90 and p99 the larger is kept, so that a tail is never hidden.
    """
    share = one.inferences / (one.inferences + other.inferences)
    return replace(
        other,
        p50_ms=_interval(one.p50_ms, other.p50_ms, share),
        p90_ms=max(one.p90_ms, other.p90_ms),
        p99_ms=max(one.p99_ms, other.p99_ms),
        mean_ms=_mean(one.mean_ms, other.mean_ms, share),
        inferences=one.inferences + other.inferences,
        ratio=_interval_or_none(one.ratio, other.ratio, share),
        power=_power(one.power, other.power, share) if one.power and other.power else None,
        power_ratio=_interval_or_none(one.power_ratio, other.power_ratio, share),
        energy_ratio=_interval_or_none(one.energy_ratio, other.energy_ratio, share),
        peak_memory_mb=max(filter(None, (one.peak_memory_mb, other.peak_memory_mb)), default=None),
        flags=tuple(dict.fromkeys(one.flags + other.flags)),
        conditions={**one.conditions, **other.conditions, **_tolerated(one, other)},
        bytes_sent=one.bytes_sent + other.bytes_sent,
        seconds=one.seconds + other.seconds,
    )


def _tolerated(one: Measurement, other: Measurement) -> dict[str, list[str]]:
    flags = sorted({flag for m in (one, other) for flag in m.conditions.get("tolerated", ())})
    return {"tolerated": flags} if flags else {}


def _doubts(measurement: Measurement) -> tuple[int, int]:
    return len(why_invalid(measurement)), len(measurement.flags)


def _power(one: Power, other: Power, share: float) -> Power:
    return replace(
        other,
        mean_w=_interval(one.mean_w, other.mean_w, share),
        idle_w=_mean_or_none(one.idle_w, other.idle_w, share),
        energy_total_mj=_interval(one.energy_total_mj, other.energy_total_mj, share),
        energy_dynamic_mj=_interval_or_none(one.energy_dynamic_mj, other.energy_dynamic_mj, share),
        samples=one.samples + other.samples,
    )


def _interval(one: Interval, other: Interval, share: float) -> Interval:
    """Return the weighted mean; its interval reaches over both figures, should they be further apart than they say.

    >>> _interval(Interval(1.0, 0.9, 1.1), Interval(3.0, 2.9, 3.1), 0.5)
    Interval(value=2.0, low=1.0, high=3.0)
    """
    value = _mean(one.value, other.value, share)
    within = math.hypot(share * one.half_width, (1 - share) * other.half_width)
    half = max(within, abs(one.value - other.value) / 2)
    return Interval(value, value - half, value + half)


def _interval_or_none(one: Interval | None, other: Interval | None, share: float) -> Interval | None:
    return None if one is None or other is None else _interval(one, other, share)


def _mean_or_none(one: float | None, other: float | None, share: float) -> float | None:
    return None if one is None or other is None else _mean(one, other, share)


def _mean(one: float, other: float, share: float) -> float:
    return share * one + (1 - share) * other
