"""Power and energy over the reference's, by pairs of blocks, from scripted samples whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.answers import Block, Powered
from pipeline.measurement.energy import power_of, ratios
from pipeline.measurement.intervals import Floats

BLOCK_S, GAP_S, PAIRS = 2.0, 0.001, 6
CANDIDATE_W, REFERENCE_W = 2.6, 3.6
CANDIDATE_MS, REFERENCE_MS = 10.0, 20.0
STEP_S = 0.001


def blocks(pairs: int = PAIRS) -> tuple[list[Block], list[Block]]:
    """Return candidate and reference in turns, the order of every second pair reversed."""
    candidate, reference, at = [], [], 1.0
    for number in range(pairs):
        both = [(candidate, CANDIDATE_MS), (reference, REFERENCE_MS)]
        for of, ms in reversed(both) if number % 2 else both:
            of.append(Block(at, at + BLOCK_S, np.full(int(BLOCK_S * 1e3 / ms), ms)))
            at += BLOCK_S + GAP_S
    return candidate, reference


def sensed(
    candidate: list[Block], cycle_s: float = 0.02, change: Callable[[Floats, Floats], Floats] = lambda _, w: w
) -> Powered:
    """Return what a sensor gives that averages over its cycle.

    Args:
        candidate: while they run, ``CANDIDATE_W`` is drawn, else ``REFERENCE_W``.
        change: makes other watts of moments and watts.
    """
    moments = np.arange(0.0, 4 * (BLOCK_S + GAP_S) * len(candidate), STEP_S)
    w = np.full(len(moments), REFERENCE_W)
    for block in candidate:
        w[(moments >= block.start_s) & (moments < block.end_s)] = CANDIDATE_W
    size = round(cycle_s / STEP_S)
    whole = len(moments) // size * size
    t_s = moments[:whole].reshape(-1, size)[:, -1] + STEP_S
    means = change(moments, w)[:whole].reshape(-1, size).mean(axis=1)
    return Powered(source="scripted", scope="board", interval_s=cycle_s, t_s=t_s.tolist(), w=means.tolist())


def test_power_and_energy_over_the_reference_are_those_of_its_pairs() -> None:
    candidate, reference = blocks()
    power, energy = ratios(sensed(candidate), candidate, reference)
    assert power.value == pytest.approx(CANDIDATE_W / REFERENCE_W)
    assert energy.value == pytest.approx(CANDIDATE_W * CANDIDATE_MS / (REFERENCE_W * REFERENCE_MS))
    assert energy.half_width == pytest.approx(0.0, abs=1e-9)


def test_reference_over_candidate_is_the_inverse() -> None:
    candidate, reference = blocks()
    raw = sensed(candidate, change=lambda t, w: w + 0.3 * np.sin(t))
    power, energy = ratios(raw, candidate, reference)
    inverse_power, inverse_energy = ratios(raw, reference, candidate)
    assert inverse_power.value == pytest.approx(1 / power.value)
    assert (inverse_energy.low, inverse_energy.high) == (pytest.approx(1 / energy.high), pytest.approx(1 / energy.low))


def test_a_drift_that_both_share_falls_out() -> None:
    candidate, reference = blocks()
    raw = sensed(candidate, change=lambda t, w: w * (1 + 0.01 * t))
    power, _ = ratios(raw, candidate, reference)
    assert power.value == pytest.approx(CANDIDATE_W / REFERENCE_W, rel=0.001)
    alone, _ = power_of(raw, candidate, [])
    assert alone.mean_w.value > 1.1 * CANDIDATE_W


@pytest.mark.parametrize("cycle_s", [0.02, 0.1, 0.2])
def test_a_slow_sensor_that_mixes_both_at_the_edges_of_blocks_shifts_no_figure(cycle_s: float) -> None:
    candidate, reference = blocks()
    raw = sensed(candidate, cycle_s)
    power, energy = ratios(raw, candidate, reference)
    assert power.value == pytest.approx(CANDIDATE_W / REFERENCE_W, rel=1e-6)
    assert energy.value == pytest.approx(CANDIDATE_W * CANDIDATE_MS / (REFERENCE_W * REFERENCE_MS), rel=1e-6)
    assert power_of(raw, candidate, [])[0].mean_w.value == pytest.approx(CANDIDATE_W, rel=1e-6)


def test_a_pair_counts_only_where_the_sensor_reaches_over_both_its_blocks() -> None:
    candidate, reference = blocks()
    last = candidate[-1].start_s if candidate[-1].start_s > reference[-1].start_s else reference[-1].start_s
    raw = sensed(candidate, change=lambda t, w: np.where(t < last - GAP_S - BLOCK_S, w, 9.0))
    cut = raw.model_copy(update={"t_s": raw.t_s[raw.t_s < last + 1], "w": raw.w[raw.t_s < last + 1]})
    whole_pairs, _ = ratios(cut, candidate, reference)
    assert whole_pairs.value == pytest.approx(CANDIDATE_W / REFERENCE_W)
    assert ratios(raw, candidate, reference)[0].value > 1.01 * whole_pairs.value


def test_without_a_pair_there_is_no_ratio() -> None:
    candidate, reference = blocks()
    raw = sensed(candidate)
    seen = raw.t_s < reference[0].start_s
    only_one = raw.model_copy(update={"t_s": raw.t_s[seen], "w": raw.w[seen]})
    with pytest.raises(ValueError, match="no power samples while candidate and reference ran in turns"):
        ratios(only_one, candidate, reference)


def test_one_pair_tells_nothing_of_the_width() -> None:
    candidate, reference = blocks(1)
    power, _ = ratios(sensed(candidate), candidate, reference)
    assert (power.low, power.high) == (0.0, 2 * power.value)


def test_a_block_without_any_power_is_no_figure() -> None:
    candidate, reference = blocks()
    dead = reference[2]
    raw = sensed(candidate, change=lambda t, w: np.where((t > dead.start_s - 1) & (t < dead.end_s + 1), 0.0, w))
    with pytest.raises(ValueError, match="no power at all while a model ran"):
        ratios(raw, candidate, reference)


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    """Of 300 boards with a sensor's noise and a drift; bounds are four standard errors wide."""
    candidate, reference = blocks()
    held = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        raw = sensed(
            candidate,
            change=lambda t, w, random=random: w + 0.002 * t + random.normal(0, 1.0, len(t)),  # type: ignore[misc]
        )
        power, _ = ratios(raw, candidate, reference)
        middle_w = 0.002 * (1.0 + PAIRS * (BLOCK_S + GAP_S))
        held += power.low <= (CANDIDATE_W + middle_w) / (REFERENCE_W + middle_w) <= power.high
    assert 0.90 < held / 300 < 0.99
