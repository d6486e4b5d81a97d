"""Power and energy per inference, absolute and over the reference's, from sensor samples beside timed blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.answers import Block, Powered
from pipeline.measurement import intervals
from pipeline.measurement.intervals import Floats, PowerTrace
from pipeline.measurement.validity import ODD_READINGS
from pipeline.records import Interval, Power

FEWEST_POWER_SAMPLES = 10
IDLE_DRIFT = 0.05
IDLE_BLOCK_S = 2.0
"""Idle windows are cut into blocks of about this length for their interval."""
LEAST_ENERGY_J = 1e-12
"""Far below any board's; a quotient by less would be no figure."""
MOST_IDLE_BLOCKS = 1000
CYCLES_PER_BLOCK = 10.0
"""In shorter blocks a sensor mixes the candidate's power with that of whatever ran before."""
MOST_EDGE = 0.25
"""Of a block's length, what is left out at each of its ends at most."""


def power_of(raw: Powered, blocks: Sequence[Block], idle: Sequence[tuple[float, float]]) -> tuple[Power, list[str]]:
    """Return power and energy over the blocks, and the doubts about them.

    Raises:
        ValueError: there are no samples while the model ran, or there was no power.
    """
    trace, edge_s = _trace(raw), _edge_s(raw)
    active = [b for b in blocks if trace.covers(b.start_s, b.end_s)]
    if not active:
        raise ValueError("no power samples while the candidate ran")
    seconds = np.array([b.end_s - b.start_s for b in active])
    runs = np.array([len(b.ms) for b in active])
    energy_j = _watts(trace, active, edge_s) * seconds
    _require_some(float(energy_j.sum()))
    rests = [trace.mean_w(*window) for window in idle if trace.covers(*window)]
    rest = _rest(trace, idle, active)
    samples = sum(trace.inside(b.start_s, b.end_s) for b in active)
    power = Power(
        mean_w=_weighted(energy_j, seconds),
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
        "gaps": max(trace.gap_s(b.start_s, b.end_s) for b in active) > intervals.GAP_CYCLES * trace.cycle_s,
        "odd_readings": _dropped_share(raw) > ODD_READINGS,
        "blocks_too_short": float(np.median(seconds)) < CYCLES_PER_BLOCK * trace.cycle_s,
        "idle_drift": len(rests) > 1 and max(rests) - min(rests) > IDLE_DRIFT * float(np.mean(rests)),
    }
    return power, [name for name, doubtful in doubts.items() if doubtful]


def ratios(
    raw: Powered, blocks: Sequence[Block], reference: Sequence[Block], confidence: float = 0.95
) -> tuple[Interval, Interval]:
    """Return mean power and energy an inference, candidate over reference, from the pairs that latency's comes from.

    What drifts moves both blocks of a pair alike and falls out.

    Raises:
        ValueError: there are no samples while a pair ran, or there was no power in one of its blocks.
    """
    trace, edge_s = _trace(raw), _edge_s(raw)
    both = zip(blocks, reference, strict=False)
    pairs = [pair for pair in both if all(trace.covers(b.start_s, b.end_s) for b in pair)]
    if not pairs:
        raise ValueError("no power samples while candidate and reference ran in turns")
    watts = np.array([_watts(trace, pair, edge_s) for pair in pairs])
    seconds = np.array([[b.end_s - b.start_s for b in pair] for pair in pairs])
    runs = np.array([[len(b.ms) for b in pair] for pair in pairs])
    _require_some(float((watts * seconds).min()))
    return _paired(watts, confidence), _paired(watts * seconds / runs, confidence)


def _paired(figures: Floats, confidence: float) -> Interval:
    """Return the first column over the second, a pair of blocks a row."""
    return intervals.ratio_of_logs(np.log(figures[:, 0]) - np.log(figures[:, 1]), confidence)


def _trace(raw: Powered) -> PowerTrace:
    """Return the samples, each moved to the middle of the time that its value covers."""
    return PowerTrace(raw.t_s - (raw.interval_s or 0.0) / 2, raw.w)


def _edge_s(raw: Powered) -> float:
    """Return how far into a block power from outside of it may reach: by half of what a sample covers, and to the next.

    Samples at the edge mix candidate and reference. On a sensor of 10 to 20 samples a block that alone would move a
    ratio of 0.72 by 0.01.
    """
    return (raw.interval_s or 0.0) / 2 + (float(np.median(np.diff(raw.t_s))) if len(raw.t_s) > 1 else 0.0)


def _watts(trace: PowerTrace, blocks: Sequence[Block], edge_s: float) -> Floats:
    """Return the mean power of each block, its edges left out: there it has not settled."""
    edges = [min(edge_s, MOST_EDGE * (b.end_s - b.start_s)) for b in blocks]
    return np.array([trace.mean_w(b.start_s + edge, b.end_s - edge) for b, edge in zip(blocks, edges, strict=True)])


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
    half = intervals.half_width_of_sum(shares, blocks)
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
    return intervals.around(
        float(totals.sum() / weights.sum()), intervals.half_width_beside_drift(quotients), quotients
    )


def _require_some(energy_j: float) -> None:
    if energy_j < LEAST_ENERGY_J:
        raise ValueError("no power at all while a model ran: the sensor is not in this board's supply")
