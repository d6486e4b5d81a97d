"""Combining measurements: one figure from several processes or repetitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pipeline.measurement.between_processes import log_mean, mean_of
from pipeline.measurement.energy import FEWEST_POWER_SAMPLES
from pipeline.measurement.from_samples import FEWEST_INFERENCES
from pipeline.measurement.validity import IMPRECISE, why_invalid
from pipeline.records import Measurement, Power

_T = TypeVar("_T")


def select_more_valid(first: Measurement, second: Measurement) -> Measurement:
    """Return the measurement with fewer doubts, the second of equals; what both cost is added up.

    What makes a measurement useless counts before what makes it imprecise. Which one is taken depends on the doubts
    alone, never on the figures.
    """
    chosen = first if _doubts(first) < _doubts(second) else second
    return replace(
        chosen, bytes_sent=first.bytes_sent + second.bytes_sent, seconds=first.seconds + second.seconds
    )  # fmt: skip


def combined(parts: Sequence[Measurement], *, ci_rel: float) -> Measurement:
    """Return what sound measurements of one network, each in a process of its own, say together; all count alike.

    Ratios and medians are geometric means, their intervals come from between the processes (see
    ``between_processes``): what differs from one to the next is in them. Percentiles and means are weighted by
    inferences.

    Args:
        parts: in the order in which they were taken.
        ci_rel: half-width that was asked for, over the figure.
    """
    if len(parts) == 1:
        return parts[0]
    last = parts[-1]
    whole = replace(
        last,
        p50_ms=log_mean([part.p50_ms for part in parts]),
        p90_ms=_weighted(parts, lambda part: part.p90_ms),
        p99_ms=_weighted(parts, lambda part: part.p99_ms),
        mean_ms=_weighted(parts, lambda part: part.mean_ms),
        inferences=sum(part.inferences for part in parts),
        processes=sum(part.processes for part in parts),
        ratio=_all(log_mean, [part.ratio for part in parts]),
        power=_all(_power, [part.power for part in parts]),
        power_ratio=_all(log_mean, [part.power_ratio for part in parts]),
        energy_ratio=_all(log_mean, [part.energy_ratio for part in parts]),
        peak_memory_mb=_all(max, [part.peak_memory_mb for part in parts]),
        load_ms=_all(statistics.median, [part.load_ms for part in parts]),
        reference_p50_ms=_all(statistics.geometric_mean, [part.reference_p50_ms for part in parts]),
        conditions={**last.conditions, **_tolerated(parts)},
        board=last.board if all(part.board == last.board for part in parts) else None,
        bytes_sent=sum(part.bytes_sent for part in parts),
        seconds=sum(part.seconds for part in parts),
    )
    return replace(whole, flags=_flags(parts, whole, ci_rel))


def _flags(parts: Sequence[Measurement], whole: Measurement, ci_rel: float) -> tuple[str, ...]:
    """Return what makes any part useless, and what is imprecise of the whole; each part alone may well be."""
    flags = [flag for part in parts for flag in part.flags if flag not in IMPRECISE]
    decisive, power = whole.ratio or whole.p50_ms, whole.power
    few = whole.inferences < FEWEST_INFERENCES or (power is not None and power.samples < FEWEST_POWER_SAMPLES)
    flags += ["few_samples"] * few
    flags += ["noisy"] * (decisive.half_width > ci_rel * decisive.value)
    if power is not None:
        decisive = whole.energy_ratio or power.mean_w
        flags += ["power_noisy"] * (decisive.half_width > ci_rel * decisive.value)
    return tuple(dict.fromkeys(flags))


def _tolerated(parts: Sequence[Measurement]) -> dict[str, list[str]]:
    flags = sorted({flag for part in parts for flag in part.conditions.get("tolerated", ())})
    return {"tolerated": flags} if flags else {}


def _doubts(measurement: Measurement) -> tuple[int, int]:
    return len(why_invalid(measurement)), len(measurement.flags)


def _power(parts: Sequence[Power]) -> Power:
    return replace(
        parts[-1],
        mean_w=mean_of([part.mean_w for part in parts]),
        idle_w=_all(statistics.fmean, [part.idle_w for part in parts]),
        energy_total_mj=mean_of([part.energy_total_mj for part in parts]),
        energy_dynamic_mj=_all(mean_of, [part.energy_dynamic_mj for part in parts]),
        samples=sum(part.samples for part in parts),
    )


def _all(together: Callable[[list[_T]], _T], figures: Sequence[_T | None]) -> _T | None:
    """Return what figures are together; None where a process lacks its own."""
    known = [figure for figure in figures if figure is not None]
    return together(known) if len(known) == len(figures) else None


def _weighted(parts: Sequence[Measurement], figure: Callable[[Measurement], float]) -> float:
    """Return the mean of a figure in ms, by inferences."""
    return math.fsum(part.inferences * figure(part) for part in parts) / sum(part.inferences for part in parts)
