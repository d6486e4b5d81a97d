"""Does a measurement settle whether a network meets its targets? Where its interval reaches over one, it does not."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.doubts import IMPRECISE
from pipeline.records import Measurement
from pipeline.targets import Metric

_ELECTRIC: frozenset[Metric] = frozenset({"power", "energy"})


def surely_meets(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network that met the targets as measured is sure to.

    By the interval of its latency over the base model's; of power and energy, by whether enough was measured.
    """
    if limits.keys() & _ELECTRIC and IMPRECISE.keys() & set(measurement.flags):
        return False
    ratio = measurement.ratio
    return "latency" not in limits or (ratio is not None and ratio.high <= limits["latency"])


def may_meet_latency(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network that missed the latency as measured missed it by less than its interval."""
    ratio = measurement.ratio
    return "latency" in limits and ratio is not None and ratio.low <= limits["latency"] < ratio.value


def surely_misses(measurement: Measurement, limits: Mapping[Metric, float]) -> bool:
    """Return whether a network misses the latency by its whole interval."""
    ratio = measurement.ratio
    return "latency" in limits and ratio is not None and ratio.low > limits["latency"]
