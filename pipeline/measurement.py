"""The agent's raw samples become a ``Measurement``: every statistic and every doubt about it is computed here.

What the agent returns is documented in its ``measure.py``; what of it is believed says ``answers.measured``. Here
ValueError is raised for what only the statistics show: no power while a model ran, figures beyond any float.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import doubts, stats
from pipeline.answers import Block, Measured, Powered
from pipeline.doubts import ODD_READINGS
from pipeline.records import Interval, Measurement, Power
from pipeline.stats import Floats, PowerTrace

FEWEST_INFERENCES = 30
"""Under this many runs a p99 is hardly more than the slowest one."""
FEWEST_POWER_SAMPLES = 10
IDLE_DRIFT = 0.05
IDLE_BLOCK_S = 2.0
"""Idle windows are cut into blocks of about this length for their interval."""
LEAST_ENERGY_J = 1e-12
"""Far below any board's; a quotient by less would be no figure."""
MOST_IDLE_BLOCKS = 1000
CYCLES_PER_BLOCK = 10.0
"""In shorter blocks a sensor mixes the candidate's power with that of whatever ran before."""


def measurement(
    raw: Measured | Mapping[str, Any],
    *,
    ci_rel: float,
    others_cores: float | None = None,
    bytes_sent: int = 0,
    seconds: float = 0.0,
) -> Measurement:
    """Return the figures behind one reply to ``measure``.

    Args:
        ci_rel: half-width that was asked for, over the figure.
        others_cores: cores that other programs may keep busy meanwhile; None: as many as do no harm.
        bytes_sent: what went over the wire for it.
        seconds: what it took, waiting included.

    Raises:
        ValueError: the reply lacks samples, or they cannot be true.
    """
    answer = raw if isinstance(raw, Measured) else Measured.of(raw)
    found = _measurement(answer, ci_rel, others_cores, bytes_sent, seconds)
    _require_finite(found)
    return found


def _measurement(
    answer: Measured, ci_rel: float, allowed: float | None, bytes_sent: int, seconds: float
) -> Measurement:
    blocks = answer.candidate.blocks
    reference = answer.reference.blocks if answer.reference else None
    samples = np.concatenate([b.ms for b in blocks])
    p50 = stats.median_interval([b.ms for b in blocks])
    ratio = stats.ratio_interval([b.ms for b in blocks], [b.ms for b in reference]) if reference else None
    before, *during, after = (state.model_dump() for state in (answer.before, *(answer.during or ()), answer.after))
    others = doubts.others_cores(before, after, answer.own_cpu_s, answer.wall_s)
    flags = doubts.flags_of(before, during, after) + _crowded(answer, others, allowed)
    if not answer.early:
        flags += _imprecise(samples, blocks, ratio or p50, ci_rel)
    power, power_ratio, energy_ratio = None, None, None
    if answer.power:
        power, doubtful = _power(answer.power, blocks, answer.idle, ci_rel)
        flags += [flag for flag in doubtful if not (answer.early and flag in doubts.IMPRECISE)]
        if reference:
            power_ratio, energy_ratio = _ratios(answer.power, blocks, reference)
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
    few = len(samples) < FEWEST_INFERENCES or len(blocks) < stats.FEWEST_BLOCKS
    return ["few_samples"] * few + ["noisy"] * (figure.half_width > ci_rel * figure.value)


def _crowded(answer: Measured, others: float | None, allowed: float | None) -> list[str]:
    if others is None or answer.cores is None:
        return []
    if allowed is None:
        allowed = doubts.allowed_others(answer.cores, answer.threads, power=answer.power is not None)
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


def _trace(raw: Powered) -> PowerTrace:
    """Return the samples, each moved to the middle of the time that its value covers."""
    return PowerTrace(raw.t_s - (raw.interval_s or 0.0) / 2, raw.w)


def _power(
    raw: Powered, blocks: Sequence[Block], idle: Sequence[tuple[float, float]], ci_rel: float
) -> tuple[Power, list[str]]:
    """Return power and energy over the blocks, and the doubts about them."""
    trace = _trace(raw)
    active = [b for b in blocks if trace.covers(b.start_s, b.end_s)]
    if not active:
        raise ValueError("no power samples while the candidate ran")
    seconds = np.array([b.end_s - b.start_s for b in active])
    runs = np.array([len(b.ms) for b in active])
    energy_j = np.array([trace.energy_j(b.start_s, b.end_s) for b in active])
    _require_some(float(energy_j.sum()))
    rests = [trace.mean_w(*window) for window in idle if trace.covers(*window)]
    rest = _rest(trace, idle, active)
    samples = sum(trace.inside(b.start_s, b.end_s) for b in active)
    mean_w = _weighted(energy_j, seconds)
    power = Power(
        mean_w=mean_w,
        idle_w=None if rest is None else rest.value,
        energy_total_mj=_weighted(energy_j * 1e3, runs),
        energy_dynamic_mj=None if rest is None else _dynamic_mj(energy_j, seconds, runs, rest),
        source=raw.source,
        scope=raw.scope,
        estimated=raw.estimated,
        samples=samples,
    )
    doubts = {
        "few_samples": samples < FEWEST_POWER_SAMPLES,
        "gaps": max(trace.gap_s(b.start_s, b.end_s) for b in active) > stats.GAP_CYCLES * trace.cycle_s,
        "odd_readings": _dropped_share(raw) > ODD_READINGS,
        "blocks_too_short": float(np.median(seconds)) < CYCLES_PER_BLOCK * trace.cycle_s,
        "idle_drift": len(rests) > 1 and max(rests) - min(rests) > IDLE_DRIFT * float(np.mean(rests)),
        "power_noisy": mean_w.half_width > ci_rel * mean_w.value,
    }
    return power, [name for name, doubtful in doubts.items() if doubtful]


def _dropped_share(raw: Powered) -> float:
    """Return how many of the sensor's readings were dropped; none where the agent does not say, as older ones."""
    return raw.dropped / (raw.dropped + len(raw.t_s)) if raw.dropped else 0.0


def _rest(trace: PowerTrace, idle: Sequence[tuple[float, float]], active: Sequence[Block]) -> Interval | None:
    """Return the power at rest in watts, as it was in the middle of the active blocks.

    Between the windows before and after, it is interpolated: a board that warms draws more at rest as well. The
    interval comes from blocks within the windows, each about its own window's mean.
    """
    windows = [window for window in idle if trace.covers(*window)]
    if not windows:
        return None
    blocks = [_idle_blocks(trace, *window) for window in windows]
    middle = (active[0].start_s + active[-1].end_s) / 2
    centres = [(start + end) / 2 for start, end in windows]
    shares = [1.0]
    if len(windows) > 1:
        late = min(1.0, max(0.0, (middle - centres[0]) / (centres[-1] - centres[0])))
        blocks, shares = [blocks[0], blocks[-1]], [1 - late, late]
    value = float(sum(share * b.mean() for share, b in zip(shares, blocks, strict=True)))
    half = stats.half_width_of_sum(shares, blocks)
    return Interval(value, value - half, value + half)


def _idle_blocks(trace: PowerTrace, start: float, end: float) -> Floats:
    count = min(MOST_IDLE_BLOCKS, max(2, round((end - start) / IDLE_BLOCK_S)))  # one alone has no spread
    edges = np.linspace(start, end, count + 1)
    return np.array([trace.mean_w(a, b) for a, b in itertools.pairwise(edges)])


def _dynamic_mj(energy_j: Floats, seconds: Floats, runs: NDArray[Any], rest: Interval) -> Interval:
    """Return the energy an inference beyond that of the board at rest; both uncertainties count."""
    active = _weighted((energy_j - rest.value * seconds) * 1e3, runs)
    idle_mj = rest.half_width * 1e3 * float(seconds.sum() / runs.sum())
    half = math.hypot(active.half_width, idle_mj)
    return Interval(active.value, active.value - half, active.value + half)


def _weighted(totals: Floats, weights: NDArray[Any]) -> Interval:
    """Return sum over sum, with the interval that the blocks' own quotients give."""
    quotients = totals / weights
    return stats.around(float(totals.sum() / weights.sum()), stats.half_width_beside_drift(quotients), quotients)


def _ratios(raw: Powered, blocks: Sequence[Block], reference: Sequence[Block]) -> tuple[float, float]:
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
    _require_some(energy)
    return energy / sum(b.end_s - b.start_s for b in covered), energy / sum(len(b.ms) for b in covered)


def _require_some(energy_j: float) -> None:
    if energy_j < LEAST_ENERGY_J:
        raise ValueError("no power at all while a model ran: the sensor is not in this board's supply")
