"""Drift of a board's speed over a run, by the base model beside every candidate.

Other methods measure a reference every k candidates and interpolate. Here it takes turns with each candidate within
fractions of a second: k is 1, there is nothing to interpolate, and the ratio of the two is free of drift. A candidate's
drift-corrected latency is that ratio times the base model's own median latency, measured before the search. Its other
figures in milliseconds, percentiles and mean, are as drifted as its raw median was, so one factor corrects them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.records import Interval, Measurement, Power, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The base model's median latency beside the first trial, the last one, the fastest and the slowest."""

    first_ms: float
    last_ms: float
    lowest_ms: float
    highest_ms: float
    trials: int

    @property
    def share(self) -> float:
        """Last over first, less one: 0.02 is a board that became 2 % slower."""
        return self.last_ms / self.first_ms - 1

    def __str__(self) -> str:
        """Return the drift in words.

        >>> str(Drift(first_ms=2.0, last_ms=2.1, lowest_ms=1.9, highest_ms=2.2, trials=30))
        'base model beside 30 trials: 2 → 2.1 ms (+5.0 %), between 1.9 and 2.2 ms'
        """
        return (
            f"base model beside {self.trials} trials: {self.first_ms:.4g} → {self.last_ms:.4g} ms"
            f" ({100 * self.share:+.1f} %), between {self.lowest_ms:.4g} and {self.highest_ms:.4g} ms"
        )


def drift_of(trials: Iterable[Trial]) -> Drift | None:
    """Return the drift over those trials whose base model was measured just then; None: there are none."""
    fresh = [t.measurement for t in trials if t.measurement is not None and t.failure is None and not t.cached]
    beside = [m.reference_p50_ms for m in fresh if m.reference_p50_ms is not None]
    if not beside:
        return None
    return Drift(
        first_ms=beside[0], last_ms=beside[-1], lowest_ms=min(beside), highest_ms=max(beside), trials=len(beside)
    )  # fmt: skip


def corrected(measurement: Measurement, base: Measurement | None) -> Interval:
    """Return a network's median latency in ms as on a board that had not drifted: ratio times the base model's.

    Both uncertainties count, the ratio's and the base model's own from process to process. Without a reference or a
    base model it is the latency as measured.
    """
    return measurement.p50_ms if base is None else _freed(measurement.p50_ms, measurement.ratio, base.p50_ms)


def footing(measurement: Measurement, base: Measurement | None) -> float:
    """Return the corrected median over the raw one: what other raw milliseconds are multiplied by to stand beside it.

    A raw 99th percentile beside a corrected median may look the faster of the two, where the board had slowed down or
    sped up since the base model was measured. Without a reference or a base model it is 1: all is as measured.
    """
    return corrected(measurement, base).value / measurement.p50_ms.value


def corrected_power(measurement: Measurement, base: Measurement | None) -> Power | None:
    """Return a network's power and energy an inference, free of drift as well: ratios times the base model's.

    The intervals are as that of the latency. What has no ratio, or was not measured by the base model's sensor, is as
    measured; so are the power at rest and the energy above it.
    """
    power, of_base = measurement.power, base.power if base is not None else None
    if power is None or of_base is None or not same_sensor(power, of_base):
        return power
    return replace(
        power,
        mean_w=_freed(power.mean_w, measurement.power_ratio, of_base.mean_w),
        energy_total_mj=_freed(power.energy_total_mj, measurement.energy_ratio, of_base.energy_total_mj),
    )


def same_sensor(one: Power, other: Power) -> bool:
    """Return whether two figures are a pair; those of two sensors, or one measured and one estimated, are none."""
    return (one.source, one.scope, one.estimated) == (other.source, other.scope, other.estimated)


def _freed(raw: Interval, ratio: Interval | None, base: Interval) -> Interval:
    if ratio is None:
        return raw
    value = ratio.value * base.value
    half = math.hypot(ratio.half_width * base.value, ratio.value * base.half_width)
    return Interval(value, value - half, value + half)
