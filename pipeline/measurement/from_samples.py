"""Measurements from raw samples: every statistic and every validity flag is computed here.

What the agent returns is documented in its ``measure.py``; what of it is believed says ``answers.measured``. Here
ValueError is raised for what only the statistics show: no power while a model ran, figures beyond any float.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.answers import Block, Measured
from pipeline.measurement import energy, intervals, validity
from pipeline.measurement.intervals import Floats
from pipeline.records import Interval, Measurement

STOPPED_EARLY = 0.998
"""Confidence of the interval of one that was stopped by it: looked at again and again, it holds the truth less often
than it says, so it is the one that the agent has gone by (repeated confidence intervals: Jennison and Turnbull, Journal
of the Royal Statistical Society B 51, 1989)."""
FEWEST_INFERENCES = 30
"""Under this many runs a p99 is hardly more than the slowest one."""


def measurement(
    raw: Measured | Mapping[str, Any],
    *,
    ci_rel: float,
    max_background_cores: float | None = None,
    bytes_sent: int = 0,
    seconds: float = 0.0,
) -> Measurement:
    """Return the figures behind one reply to ``measure``.

    Args:
        ci_rel: half-width that was asked for, over the figure.
        max_background_cores: cores that other programs may keep busy meanwhile; None: as many as do no harm.
        bytes_sent: what went over the wire for it.
        seconds: what it took, waiting included.

    Raises:
        ValueError: the reply lacks samples, or they cannot be true.
    """
    answer = raw if isinstance(raw, Measured) else Measured.of(raw)
    found = _measurement(answer, ci_rel, max_background_cores, bytes_sent, seconds)
    _require_finite(found)
    return found


def _measurement(
    answer: Measured, ci_rel: float, allowed: float | None, bytes_sent: int, seconds: float
) -> Measurement:
    blocks = answer.candidate.blocks
    reference = answer.reference.blocks if answer.reference else None
    samples = np.concatenate([b.ms for b in blocks])
    p50 = intervals.median_interval([b.ms for b in blocks])
    confidence = STOPPED_EARLY if answer.early else 0.95
    ratio = (
        intervals.ratio_interval([b.ms for b in blocks], [b.ms for b in reference], confidence) if reference else None
    )
    before, *during, after = (state.model_dump() for state in (answer.before, *(answer.during or ()), answer.after))
    others = validity.background_cores(before, after, answer.own_cpu_s, answer.wall_s)
    flags = validity.flags_of(before, during, after) + _crowded(answer, others, allowed)
    if not answer.early:
        flags += _imprecise(samples, blocks, ratio or p50, ci_rel)
    power, power_ratio, energy_ratio = None, None, None
    if answer.power:
        power, doubtful = energy.power_of(answer.power, blocks, answer.idle)
        if reference:
            power_ratio, energy_ratio = energy.ratios(answer.power, blocks, reference, confidence)
        doubtful += ["power_noisy"] * _is_wide(energy_ratio or power.mean_w, ci_rel)  # what is decided by
        flags += [flag for flag in doubtful if not (answer.early and flag in validity.IMPRECISE)]
    p90, p99 = intervals.percentiles(samples, [90, 99])
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
        peak_memory_mb=answer.peak_rss_mb,
        load_ms=answer.candidate.load_ms,
        temperature_c=answer.after.temperature_c,
        clock_mhz=answer.after.clock_mhz,
        flags=tuple(dict.fromkeys(flags)),
        runtime=answer.runtime,
        threads=answer.threads,
        conditions=_conditions(answer, others),
        reference_p50_ms=float(np.median(np.concatenate([b.ms for b in reference]))) if reference else None,
        early=answer.early,
        bytes_sent=bytes_sent,
        seconds=seconds,
    )


def _imprecise(samples: Floats, blocks: Sequence[Block], figure: Interval, ci_rel: float) -> list[str]:
    """Return the doubts about latency, by the figure that is decided by: the ratio, without a reference the median."""
    few = len(samples) < FEWEST_INFERENCES or len(blocks) < intervals.FEWEST_BLOCKS
    return ["few_samples"] * few + ["noisy"] * _is_wide(figure, ci_rel)


def _is_wide(figure: Interval, ci_rel: float) -> bool:
    return figure.half_width > ci_rel * figure.value


def _crowded(answer: Measured, others: float | None, allowed: float | None) -> list[str]:
    if others is None or answer.cores is None:
        return []
    if allowed is None:
        allowed = validity.allowed_others(answer.cores, answer.threads, power=answer.power is not None)
    return ["competing_load"] * (others > allowed)


def _conditions(answer: Measured, others: float | None) -> dict[str, Any]:
    governor = answer.after.governor
    return {
        **{key: value for key, value in (answer.conditions or {}).items() if value is not None},
        **({"governor": governor} if governor else {}),
        **({"others_cores": round(others, 2)} if others is not None else {}),
    }


def _require_finite(found: Measurement) -> None:
    """Refuse figures that no float holds: each sample was possible, what comes of all of them is not."""
    plain = dataclasses.asdict(dataclasses.replace(found, conditions={}))
    parts = [plain, *(part for part in plain.values() if isinstance(part, dict))]
    parts += [inner for part in parts for inner in part.values() if isinstance(inner, dict)]
    for name, value in ((name, value) for part in parts for name, value in part.items()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"the reply to measure makes no sense: its samples give no finite {name}")
