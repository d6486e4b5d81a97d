"""Sensor quality: refresh rate, noise and gaps of a power sensor.

What the agent returns is documented in its ``meter.py``; what of it is believed says ``answers.meter``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.answers import Metered, Phase
from pipeline.measurement import intervals
from pipeline.measurement.intervals import Floats

FEWEST_SAMPLES = 10
"""In each window; below, nothing is said of the meter."""
SETTLING_S = 0.5
"""Of the load window's beginning, in which the load rises; and at most a quarter of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReport:
    """One test of a meter, at rest and under load."""

    source: str
    scope: str
    estimated: bool
    """Power is computed by a model of the board, not measured."""
    interval_s: float
    """The time that one value covers, as the sensor says."""
    sample_s: float
    """Median time between two samples."""
    refresh_s: float | None
    """Median time between two changes of value; None: it changed less than twice."""
    repeated_share: float
    """Samples that only repeat the one before."""
    rest_w: float
    load_w: float
    noise_w: float
    """Standard deviation at rest, a straight drift taken off."""
    noise_rel: float
    """The same over the mean at rest."""
    lag1: float
    """Lag-1 autocorrelation of samples at rest, 0 to 1."""
    rest_v: float | None
    load_v: float | None
    """The lower 5 % of the supply's voltage under load: an average would hide the dips that throttle a board."""
    drop_v: float | None
    longest_gap_s: float
    gaps: int
    """Steps between samples longer than stats.GAP_CYCLES of the usual one."""
    samples: int
    dropped: int = 0
    """Readings that could not be true, beside the samples."""

    @property
    def follows(self) -> bool:
        """Whether power under load stands clear of power at rest: over it by more than the noise."""
        return self.load_w - self.rest_w > max(3 * self.noise_w, 0.02 * self.rest_w)


@dataclass(frozen=True, slots=True)
class _Window:
    t_s: Floats
    w: Floats
    v: Floats | None


def meter_report(raw: Metered | Mapping[str, Any]) -> MeterReport:
    """Return what one reply to ``meter`` says of the sensor.

    Raises:
        ValueError: the reply lacks samples, or they cannot be true.
    """
    answer = raw if isinstance(raw, Metered) else Metered.of(raw)
    if answer.about is None or answer.rest is None or answer.load is None:
        raise ValueError("the reply to meter holds no samples: there was no sensor")
    rest, load = _window(answer.rest), _settled(answer.load)
    source = answer.about.source
    for name, window in (("rest", rest), ("load", load)):
        if len(window.t_s) < FEWEST_SAMPLES:
            raise ValueError(
                f"{source} gave {len(window.t_s)} values under {name}, at least {FEWEST_SAMPLES} are needed"
            )
    steps = np.concatenate([np.diff(rest.t_s), np.diff(load.t_s)])
    usual_s = float(np.median(steps))
    waits = [wait for window in (rest, load) for wait in _waits(window)]
    flat = _without_drift(rest)
    rest_w, noise_w = float(rest.w.mean()), float(flat.std(ddof=1))
    rest_v, load_v = _quantile(rest.v, 0.5), _quantile(load.v, 0.05)
    return MeterReport(
        source=source,
        scope=answer.about.scope,
        estimated=answer.about.estimated,
        interval_s=answer.about.interval_s,
        sample_s=usual_s,
        refresh_s=float(np.median(waits)) if waits else None,
        repeated_share=float(np.mean(np.concatenate([np.diff(rest.w), np.diff(load.w)]) == 0)),
        rest_w=rest_w,
        load_w=float(load.w.mean()),
        noise_w=noise_w,
        noise_rel=noise_w / rest_w if rest_w > 0 else math.inf,
        lag1=intervals.lag1(flat),
        rest_v=rest_v,
        load_v=load_v,
        drop_v=rest_v - load_v if rest_v is not None and load_v is not None else None,
        longest_gap_s=float(steps.max()),
        gaps=int((steps > intervals.GAP_CYCLES * usual_s).sum()),
        samples=len(rest.t_s) + len(load.t_s),
        dropped=answer.dropped,
    )


def _window(phase: Phase) -> _Window:
    return _Window(phase.t_s, phase.w, phase.v)


def _settled(phase: Phase) -> _Window:
    """Return the window without the time in which the load came up."""
    window = _window(phase)
    kept = window.t_s >= phase.start_s + min(SETTLING_S, (phase.end_s - phase.start_s) / 4)
    return _Window(window.t_s[kept], window.w[kept], window.v[kept] if window.v is not None else None)


def _waits(window: _Window) -> list[float]:
    """Return the times between successive changes of value."""
    changed_s = window.t_s[1:][np.diff(window.w) != 0]
    return [float(wait) for wait in np.diff(changed_s)]


def _without_drift(window: _Window) -> Floats:
    """Return the watts less a straight line through them: a board that cools down is not a noisy meter."""
    t = window.t_s - window.t_s.mean()
    slope, level = np.polyfit(t, window.w, 1)
    rest: Floats = np.asarray(window.w - (slope * t + level), dtype=np.float64)
    return rest.round(9)  # without the fit's own dust


def _quantile(values: Floats | None, share: float) -> float | None:
    return None if values is None or not len(values) else float(np.quantile(values, share))
