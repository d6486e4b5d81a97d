"""The agent's raw samples become a ``Measurement``: every statistic and every doubt about it is computed here.

What the agent returns is documented in its ``measure.py``. It comes from a board, so nothing in it is believed before
it was looked at: ``measurement`` raises ValueError for what is missing, is no number, or contradicts itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import doubts, stats
from pipeline.doubts import ODD_READINGS
from pipeline.records import Interval, Measurement, Power
from pipeline.stats import Floats, PowerTrace

FEWEST_INFERENCES = 30
"""Under this many runs a p99 is hardly more than the slowest one."""
FEWEST_POWER_SAMPLES = 10
IDLE_DRIFT = 0.05
IDLE_BLOCK_S = 2.0
"""Idle windows are cut into blocks of about this length for their interval."""
CYCLES_PER_BLOCK = 10.0
"""In shorter blocks a sensor mixes the candidate's power with that of whatever ran before."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive runs of one model: when they began and ended, and how long each took."""

    start_s: float
    end_s: float
    ms: Floats


def measurement(
    raw: Mapping[str, Any],
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
    try:
        return _measurement(raw, ci_rel, others_cores, bytes_sent, seconds)
    except (KeyError, TypeError, IndexError) as e:
        raise ValueError(f"the reply to measure lacks what it should hold: {e!r}") from e


def _measurement(
    raw: Mapping[str, Any], ci_rel: float, allowed: float | None, bytes_sent: int, seconds: float
) -> Measurement:
    blocks = _blocks(raw["candidate"])
    reference = _blocks(raw["reference"]) if raw.get("reference") else None
    samples = np.concatenate([b.ms for b in blocks])
    p50 = stats.median_interval([b.ms for b in blocks])
    ratio = stats.ratio_interval([b.ms for b in blocks], [b.ms for b in reference]) if reference else None
    after, early = raw["after"], bool(raw.get("early"))
    flags = doubts.flags_of(raw["before"], raw.get("during") or (), after) + _crowded(raw, allowed)
    if not early:
        flags += _imprecise(samples, blocks, [i for i in (p50, ratio) if i is not None], ci_rel)
    power, power_ratio, energy_ratio = None, None, None
    if raw.get("power"):
        power, doubtful = _power(raw["power"], blocks, _idle(raw), ci_rel)
        flags += [flag for flag in doubtful if not (early and flag in doubts.IMPRECISE)]
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
        conditions=_conditions(raw),
        reference_p50_ms=float(np.median(np.concatenate([b.ms for b in reference]))) if reference else None,
        early=early,
        bytes_sent=bytes_sent,
        seconds=seconds,
    )


def _imprecise(samples: Floats, blocks: Sequence[Block], figures: Sequence[Interval], ci_rel: float) -> list[str]:
    """Return the doubts about latency: what slows both nets down alike leaves the ratio sharp, and that is enough."""
    few = len(samples) < FEWEST_INFERENCES or len(blocks) < stats.FEWEST_BLOCKS
    noisy = all(figure.half_width > ci_rel * figure.value for figure in figures)
    return ["few_samples"] * few + ["noisy"] * noisy


def _crowded(raw: Mapping[str, Any], allowed: float | None) -> list[str]:
    found = doubts.others_cores(raw)
    if found is None:
        return []
    if allowed is None:
        allowed = doubts.allowed_others(int(raw["cores"]), int(raw["threads"]), power=bool(raw.get("power")))
    return ["competing_load"] * (found > allowed)


def _conditions(raw: Mapping[str, Any]) -> dict[str, Any]:
    others = doubts.others_cores(raw)
    told = dict(raw.get("conditions") or {})
    governor = raw["after"].get("governor")
    return {
        **{key: value for key, value in told.items() if value is not None},
        **({"governor": governor} if governor else {}),
        **({"others_cores": round(others, 2)} if others is not None else {}),
    }


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
    """Return power and energy over the blocks, and the doubts about them."""
    trace = _trace(raw)
    active = [b for b in blocks if trace.covers(b.start_s, b.end_s)]
    if not active:
        raise ValueError("no power samples while the candidate ran")
    seconds = np.array([b.end_s - b.start_s for b in active])
    runs = np.array([len(b.ms) for b in active])
    energy_j = np.array([trace.energy_j(b.start_s, b.end_s) for b in active])
    rests = [trace.mean_w(*window) for window in idle if trace.covers(*window)]
    rest = _rest(trace, idle, active)
    samples = sum(trace.inside(b.start_s, b.end_s) for b in active)
    mean_w = _weighted(energy_j, seconds)
    power = Power(
        mean_w=mean_w,
        idle_w=None if rest is None else rest.value,
        energy_total_mj=_weighted(energy_j * 1e3, runs),
        energy_dynamic_mj=None if rest is None else _dynamic_mj(energy_j, seconds, runs, rest),
        source=str(raw["source"]),
        scope=_scope(raw["scope"]),
        estimated=bool(raw.get("estimated")),
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


def _dropped_share(raw: Mapping[str, Any]) -> float:
    """Return how many of the sensor's readings were dropped; none where the agent does not say, as older ones."""
    dropped, kept = int(raw.get("dropped") or 0), len(raw["t_s"])
    if dropped < 0:
        raise ValueError("the reply to measure holds a negative number of dropped readings")
    return dropped / (dropped + kept) if dropped else 0.0


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
    count = max(2, round((end - start) / IDLE_BLOCK_S))  # one alone would say nothing about its spread
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
