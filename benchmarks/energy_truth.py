"""Synthetic truth: how near the measured energy comes to the scripted one, and how often its interval holds it.

    python benchmarks/energy_truth.py [--repeats 200]

A board is scripted whose power at every moment is known: at rest, bursts of candidate and reference in turns, a slow
drift, and noise with a Jetson Nano's correlation (0.91 after 10 ms, 0.47 after 100 ms, standard deviation 85 mW of
3.2 W, from 70 s at a steady load). Two noises have that correlation, and both are tried:

waves      what a Nano shows beyond 100 ms as well: means over 2 s and more are steady, so there are waves in it (no
           period divides a block: else the same error would hide in all of them)
decaying   the correlation goes on to decay: means over seconds still wander, five times as much as a Nano's

``--noise`` prints both beside the board's figures. Energy over the reference's is tried beside harsher ones too:

sensor noise   300 mW more in every sample, each for itself
drift          both models draw 5 mW more every second
warming        what both draw beyond rest rises by 10 %, half of it within 14 s
slow sensor    ten samples a block, of which those at its edges mix both models
slow decay     the noise of neighbouring blocks is correlated by 0.6

An INA219 is scripted on top: it averages over its cycle of 17.6 ms and rounds to its steps. What it would have sent
goes through the pipeline's own stopping rule and statistics. Beside the pipeline's interval stands the textbook's,
which takes every sample for independent. The true energy over the reference's is that of the same moments, the whole
of the blocks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device_agents import stopping
from pipeline.measurement.from_samples import measurement
from pipeline.records import Interval, Measurement, Power

Floats = NDArray[np.float64]

STEP_S = 0.0011
"""Resolution of the script: the noise is made at this pace, sixteen values in one cycle of an INA219."""
BLOCK_S, IDLE_BEFORE_S, IDLE_AFTER_S, MIN_S, MAX_S, CI_REL = 2.0, 6.0, 4.0, 10.0, 60.0, 0.02
"""The pipeline's own defaults where a sensor is named."""
REST_W, CANDIDATE_W, REFERENCE_W = 2.0, 3.2, 3.6
CANDIDATE_MS, REFERENCE_MS = 8.0, 16.0
WARMING_S = 20.0


@dataclass(frozen=True, slots=True)
class Noise:
    """Waves with random phases and noises that forget themselves; standard deviations in watts."""

    waves: dict[float, float]
    """Period in seconds → watts."""
    decays: dict[float, float]
    """Seconds in which the correlation falls by e → watts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What disturbs a measurement."""

    noise: Noise
    drift_w_per_s: float = 0.56e-3
    warming: float = 0.0
    """Share by which the power beyond rest rises in the end."""
    cycle_s: float = 0.0176
    """Of the sensor."""
    sensor_w: float = 0.0
    """Standard deviation of each of its samples."""

    def drawn(self, moments: Floats, level: Floats | float) -> Floats:
        """Return the power at moments that is ``level`` at first."""
        since_rest = np.clip(moments - IDLE_BEFORE_S, 0.0, None)
        rise = 1 + self.warming * (1 - np.exp(-since_rest / WARMING_S))
        return np.asarray(REST_W + (level - REST_W) * rise + self.drift_w_per_s * moments)


NANO = {
    "waves": Board(noise=Noise({1.9: 0.048, 0.97: 0.038, 0.41: 0.050}, {0.018: 0.032})),
    "decaying": Board(noise=Noise({}, {0.05: 0.057, 0.30: 0.063})),
}
"""With the noise of a Jetson Nano."""
HARSHER = {
    "sensor noise": replace(NANO["decaying"], sensor_w=0.3),
    "drift": replace(NANO["decaying"], drift_w_per_s=0.005),
    "warming": replace(NANO["decaying"], warming=0.1),
    "slow sensor": replace(NANO["decaying"], cycle_s=0.198),
    "slow decay": Board(noise=Noise({}, {4.0: 0.063})),
}
BUS_STEP_V, SHUNT_STEP_A, SUPPLY_V = 4e-3, 1e-4, 5.1


@dataclass(frozen=True, slots=True)
class Scripted:
    """What the sensor saw, and the truth behind it."""

    raw: dict[str, object]
    cycle_s: float
    total_mj: float
    dynamic_mj: float
    ratio: float
    """Energy an inference over the reference's."""


def script(board: Board, generator: np.random.Generator) -> Scripted:
    """Return one measurement: blocks in turns until the pipeline's own rule says enough."""
    moments = np.arange(0.0, IDLE_BEFORE_S + MAX_S + 2 * BLOCK_S + IDLE_AFTER_S + 2.0, STEP_S)
    noise = _noise(board.noise, len(moments), generator)
    errors = board.sensor_w * generator.normal(size=len(moments))
    blocks: dict[str, list[dict[str, object]]] = {"candidate": [], "reference": []}
    level = np.full(len(moments), REST_W)
    begin = at = IDLE_BEFORE_S + 0.5
    turns: list[list[tuple[float, float, int]]] = []
    while at - begin < MAX_S:
        turn = {}
        for name in ("reference", "candidate") if len(turns) % 2 else ("candidate", "reference"):
            watts, ms = (CANDIDATE_W, CANDIDATE_MS) if name == "candidate" else (REFERENCE_W, REFERENCE_MS)
            start, end = np.searchsorted(moments, (at, at + BLOCK_S))
            level[start:end] = watts
            runs = int(BLOCK_S * 1e3 / ms)
            blocks[name].append({"start_s": at, "end_s": at + BLOCK_S, "ms": [ms] * runs})
            turn[name] = (at, at + BLOCK_S, runs)
            at += BLOCK_S + 0.001
        so_far = slice(0, int((at + IDLE_AFTER_S + 1) / STEP_S))
        t, w = _ina219(board, moments[so_far], board.drawn(moments[so_far], level[so_far]) + noise[so_far], errors)
        seen = t <= at
        turns.append([turn["candidate"], turn["reference"]])
        if len(turns) * BLOCK_S >= MIN_S and stopping.energy_enough(turns, t[seen].tolist(), w[seen].tolist(), CI_REL):
            break
    idle = [[0.25, 0.25 + IDLE_BEFORE_S], [at + 0.25, at + 0.25 + IDLE_AFTER_S]]
    seen = t <= idle[1][1] + 0.5
    state = {"throttled": None}
    raw = {
        "candidate": {"blocks": blocks["candidate"], "load_ms": 1.0},
        "reference": {"blocks": blocks["reference"], "load_ms": 1.0},
        "idle": idle, "before": state, "after": state, "runtime": "scripted", "threads": 1,
        "power": {"source": "scripted", "scope": "module", "interval_s": board.cycle_s,
                  "t_s": t[seen].tolist(), "w": w[seen].tolist()},
    }  # fmt: skip
    truth = board.drawn(moments, level)
    windows = [candidate for candidate, _ in turns]
    seconds_a_run = BLOCK_S / windows[0][2]
    active_w = float(np.mean([_mean(moments, truth, start, end) for start, end, _ in windows]))
    middle = (windows[0][0] + windows[-1][1]) / 2
    rest_w = REST_W + board.drift_w_per_s * middle
    span = moments[(moments >= begin) & (moments < at)]
    candidate_w, reference_w = (float(board.drawn(span, level).mean()) for level in (CANDIDATE_W, REFERENCE_W))
    return Scripted(
        raw, board.cycle_s, active_w * seconds_a_run * 1e3, (active_w - rest_w) * seconds_a_run * 1e3,
        candidate_w * CANDIDATE_MS / (reference_w * REFERENCE_MS),
    )  # fmt: skip


def _independent(scripted: Scripted, power: Power) -> Interval:
    """Return the total energy with the textbook's interval: 1.96 standard deviations over the root of the samples."""
    sensor: dict[str, list[float]] = scripted.raw["power"]  # type: ignore[assignment]
    t, w = np.array(sensor["t_s"]), np.array(sensor["w"])
    blocks = scripted.raw["candidate"]["blocks"]  # type: ignore[index]
    inside = np.concatenate([w[(t > b["start_s"] + scripted.cycle_s) & (t < b["end_s"])] for b in blocks])
    value = power.energy_total_mj.value
    half = float(1.96 * inside.std(ddof=1) / np.sqrt(len(inside)) / power.mean_w.value * value)
    return Interval(value, value - half, value + half)


def _noise(kind: Noise, count: int, generator: np.random.Generator) -> Floats:
    moments = np.arange(count) * STEP_S
    total = np.zeros(count)
    for period_s, watts in kind.waves.items():
        total += np.sqrt(2) * watts * np.sin(2 * np.pi * moments / period_s + generator.uniform(0, 2 * np.pi))
    for tau_s, watts in kind.decays.items():
        total += watts * _decaying(count, tau_s, generator)
    return total


def _decaying(count: int, tau_s: float, generator: np.random.Generator) -> Floats:
    """Return noise of unit variance whose correlation falls by e within ``tau_s``."""
    from scipy.signal import lfilter

    keep = np.exp(-STEP_S / tau_s)
    shocks = generator.normal(size=count) * np.sqrt(1 - keep**2)
    shocks[0] = generator.normal()
    return np.asarray(lfilter([1.0], [1.0, -keep], shocks))


def _ina219(board: Board, moments: Floats, watts: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Return when each conversion ended and the power that the chip's two registers say."""
    a_cycle = round(board.cycle_s / STEP_S)
    whole = len(watts) // a_cycle * a_cycle
    sensed = np.clip(watts[:whole].reshape(-1, a_cycle).mean(axis=1) + errors[: whole // a_cycle], 0.0, None)
    amperes = np.round(sensed / SUPPLY_V / SHUNT_STEP_A) * SHUNT_STEP_A
    volts = round(SUPPLY_V / BUS_STEP_V) * BUS_STEP_V
    return moments[:whole].reshape(-1, a_cycle)[:, -1] + STEP_S, amperes * volts


def _mean(moments: Floats, watts: Floats, start: float, end: float) -> float:
    return float(watts[(moments >= start) & (moments < end)].mean())


def _measured(board: Board, repeats: int, seed: int) -> Iterator[tuple[Scripted, Measurement]]:
    for number in track(range(repeats), "measuring", console=Console(stderr=True), transient=True):
        scripted = script(board, np.random.default_rng([seed, number]))
        yield scripted, measurement(scripted.raw, ci_rel=CI_REL)


def _print_noise(generator: np.random.Generator) -> None:
    """Print the scripted noises beside the board's."""
    parts = [[_noise(b.noise, round(70 / STEP_S), generator) for _ in range(20)] for b in NANO.values()]
    table = Table("", *NANO, "Jetson Nano", box=None)
    table.add_row("standard deviation", *(f"{np.std(part) * 1e3:.0f} mW" for part in parts), "85 mW")
    for lag_s, real in ((0.01, 0.91), (0.1, 0.47)):
        lag = round(lag_s / STEP_S)
        found = [np.mean([np.corrcoef(one[:-lag], one[lag:])[0, 1] for one in part]) for part in parts]
        table.add_row(f"correlation after {lag_s * 1e3:.0f} ms", *(f"{f:.2f}" for f in found), f"{real}")
    for window_s, share in ((0.1, 2.2), (0.5, 1.6), (1, 1.0), (2, 0.20), (5, 0.17), (10, 0.06)):
        size = round(window_s / STEP_S)
        means = [np.concatenate([o[: len(o) // size * size].reshape(-1, size).mean(axis=1) for o in p]) for p in parts]
        shown = [f"{m.std() / CANDIDATE_W:.2%}" for m in means]
        table.add_row(f"standard deviation of means over {window_s} s", *shown, f"{share:.2f}%")
    Console().print(table)


def _rows(name: str, found: list[tuple[Scripted, Measurement]]) -> Iterator[tuple[str, ...]]:
    """Return the rows of a board: its energy in mJ, and over the reference's."""
    powers = [(scripted, measured.power) for scripted, measured in found if measured.power]
    dynamic = [(s.dynamic_mj, p.energy_dynamic_mj) for s, p in powers if p.energy_dynamic_mj]
    yield _row(name, "total", [(s.total_mj, p.energy_total_mj) for s, p in powers], "mJ")
    yield _row(name, "dynamic", dynamic, "mJ")
    yield _row(name, "total, textbook's", [(s.total_mj, _independent(s, p)) for s, p in powers], "mJ")
    yield _ratio_row(name, found)


def _ratio_row(name: str, found: list[tuple[Scripted, Measurement]]) -> tuple[str, ...]:
    return _row(name, "over the reference's", [(s.ratio, m.energy_ratio) for s, m in found if m.energy_ratio], "×")


def _row(name: str, title: str, found: list[tuple[float, Interval]], unit: str) -> tuple[str, ...]:
    """Return what is printed of figures beside their truths."""
    truth = np.array([true for true, _ in found])
    error = np.array([interval.value for _, interval in found]) / truth - 1
    half = np.array([interval.half_width for _, interval in found]) / truth
    held = float(np.mean([interval.low <= true <= interval.high for true, interval in found]))
    return (
        name, title, f"{truth.mean():.4g} {unit}", f"{error.mean():+.2%}", f"{np.sqrt(np.mean(error**2)):.2%}",
        f"{abs(error).max():.2%}", f"±{np.median(half):.2%}",
        f"{held:.1%} ± {np.sqrt(held * (1 - held) / len(found)):.1%}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*NANO, *HARSHER], help="of the noises, these alone")
    parser.add_argument("--noise", action="store_true", help="print the scripted noises beside the board's, and end")
    args = parser.parse_args()
    if args.noise:
        _print_noise(np.random.default_rng(args.seed))
        return
    table = Table(
        "noise", "energy an inference", "truth", "bias", "error, rms", "worst", "95 % interval", "holds the truth",
        box=None,
    )  # fmt: skip
    for name, board in (NANO | HARSHER).items():
        if args.only and name not in args.only:
            continue
        found = list(_measured(board, args.repeats, args.seed))
        for row in _rows(name, found) if name in NANO else [_ratio_row(name, found)]:
            table.add_row(*row)
    Console(width=120).print(table)
    Console().print(
        f"{args.repeats} measurements each: 6 s at rest, five blocks of 2 s and more of each model, 4 s at rest"
    )


if __name__ == "__main__":
    main()
