"""Feasibility under uncertainty: does an interval settle whether a target is met?

One rule for latency, power and energy, each over the base model's. Size and density are counted, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.measurement.intervals import NORMAL_95
from pipeline.records import Interval, Measurement
from pipeline.targets import Metric

COUNTED: frozenset[Metric] = frozenset({"size", "density"})
MEASURED: tuple[Metric, ...] = ("latency", "power", "energy")


def ratios(measurement: Measurement) -> dict[Metric, Interval]:
    """Return what was measured over the base model's; what was not is absent."""
    known: dict[Metric, Interval | None] = {
        "latency": measurement.ratio, "power": measurement.power_ratio, "energy": measurement.energy_ratio,
    }  # fmt: skip
    return {metric: ratio for metric, ratio in known.items() if ratio is not None}


def deviations(measurement: Measurement) -> dict[Metric, float]:
    """Return the standard deviation of each of ``ratios``, by its interval: what it counts with in the cost model.

    That of a figure of unknown width is absent. A candidate that was stopped early counts for less: it was stopped
    because it looked slow, and its interval is the wide one that it was stopped by (``from_samples.STOPPED_EARLY``).
    """
    known = {metric: ratio.half_width for metric, ratio in ratios(measurement).items()}
    return {metric: half / NORMAL_95 for metric, half in known.items() if math.isfinite(half)}


def with_ratios(measurement: Measurement, over: Mapping[Metric, Interval]) -> Measurement:
    """Return a measurement with other figures over the base model's; those that are absent become None."""
    return replace(
        measurement, ratio=over.get("latency"), power_ratio=over.get("power"), energy_ratio=over.get("energy")
    )


def certainly_meets(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network meets its targets by whole intervals; one whose figure is absent is not met surely."""
    found = ratios(measurement)
    return all(metric in found and found[metric].high <= limits[metric] for metric in limits.keys() - COUNTED)


def certainly_misses(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network misses any of its targets by a whole interval."""
    found = ratios(measurement)
    return any(found[metric].low > limits[metric] for metric in limits.keys() & found.keys())


def possibly_meets(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network that misses targets as measured misses each by less than its interval."""
    found = ratios(measurement)
    missed = [metric for metric in limits.keys() & found.keys() if found[metric].value > limits[metric]]
    return bool(missed) and all(found[metric].low <= limits[metric] for metric in missed)
