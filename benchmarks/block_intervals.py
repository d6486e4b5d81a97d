"""Correlated blocks: do intervals, the stopping rule and early rejection keep their coverage, and what do they cost?

    python benchmarks/block_intervals.py [--series 2000] [--seed 0]

Each model's blocks are a first-order autoregressive series: a share of noise, and a correlation with the next block.
The first table asks the host's interval alone: how often it holds the truth, and how wide it is over the true standard
error (1.96 is the least possible). The other two play whole measurements with the default settings through the agent's
own `Turns`: candidate over reference until the interval is narrow enough; and with a limit, networks below, at and
above it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device_agents import stopping
from device_agents.arguments import Measure
from device_agents.turns import Subject, Turns
from pipeline.measurement import intervals
from pipeline.measurement.intervals import Floats
from pipeline.records import MeasureSettings

COUNTS = (5, 10, 20, 40, 60)
CORRELATIONS = (0.0, 0.2, 0.4, 0.6)
NOISES = (0.01, 0.02, 0.03)
LIMIT = 0.5
SHARES = {"1 % below": 0.99, "at the limit": 1.0, "5 % above": 1.05, "10 % above": 1.1, "30 % above": 1.3}
BLOCK_MS = 1.0
DEFAULTS = MeasureSettings()
MOST_PAIRS = math.ceil(DEFAULTS.max_s / DEFAULTS.block_s / 2)


class Simulated(Subject):
    """A model whose blocks' medians are written down beforehand."""

    def __init__(self) -> None:
        self.blocks, self.medians_ms, self.active_s, self.runs = [], [], 0.0, 0

    def add(self, median_ms: float) -> None:
        """Note one more block."""
        self.medians_ms.append(median_ms)
        self.active_s += DEFAULTS.block_s
        self.runs += round(DEFAULTS.block_s * 1e3 / BLOCK_MS)


def measured(logs_a: Sequence[float], logs_b: Sequence[float], limit: float | None) -> tuple[int, bool]:
    """Return after how many pairs of these blocks the agent ends, and whether it rejects the candidate."""
    candidate, reference = Simulated(), Simulated()
    known = {name: value for name, value in asdict(DEFAULTS).items() if name in Measure._fields}
    asked = Measure(candidate="", **{**known, "reject_above": limit})
    turns = Turns(candidate, reference, asked, "", lambda _: True)
    for pairs, (a, b) in enumerate(zip(logs_a, logs_b, strict=True), 1):
        candidate.add(BLOCK_MS * math.exp(a))
        reference.add(BLOCK_MS * math.exp(b))
        if turns.over(2 * pairs * DEFAULTS.block_s):
            return pairs, turns.early
    return len(logs_a), False


def autoregressive(count: int, correlation: float, random: np.random.Generator) -> Floats:
    """Return a series of deviation 1 whose neighbours correlate so."""
    series = random.normal(size=count)
    for i in range(1, count):
        series[i] = correlation * series[i - 1] + math.sqrt(1 - correlation**2) * series[i]
    return series


def coverage(series: int, random: np.random.Generator) -> Table:
    columns = [f"correlation {correlation:g}" for correlation in CORRELATIONS]
    table = Table("blocks", *columns, title="95 % intervals that hold the mean, and their half-width", box=None)
    for count in COUNTS:
        cells = []
        for correlation in CORRELATIONS:
            drawn = [autoregressive(count, correlation, random) for _ in range(series)]
            means, halves = np.array([(abs(s.mean()), intervals.half_width(s)) for s in drawn]).T
            cells.append(f"{np.mean(means <= halves):.1%}  {np.mean(halves) / np.sqrt(np.mean(means**2)):.2f}")
        table.add_row(str(count), *cells)
    return table


def stopped(series: int, random: np.random.Generator) -> Table:
    table = Table("noise", "correlation", "ratio's interval holds", "half-width", "seconds", "slowest tenth",
                  title="Measured to the end", box=None)  # fmt: skip
    for noise, correlation in _cases("to the end"):
        held, halves, seconds = [], [], []
        for _ in range(series):
            a, b = (noise * autoregressive(MOST_PAIRS, correlation, random) for _ in range(2))
            pairs, _ = measured(a.tolist(), b.tolist(), None)
            logs = a[:pairs] - b[:pairs]
            halves.append(intervals.half_width(logs))
            held.append(abs(logs.mean()) <= halves[-1])
            seconds.append(2 * DEFAULTS.block_s * pairs)
        table.add_row(
            f"{noise:.0%}", f"{correlation:g}", f"{np.mean(held):.1%}", f"±{np.mean(halves):.2%}",
            f"{np.mean(seconds):.2f}", f"{np.percentile(seconds, 90):.2f}",
        )  # fmt: skip
    return table


def rejected(series: int, random: np.random.Generator) -> Table:
    title = "Rejected with a limit, and the seconds that a measurement takes"
    table = Table("noise", "correlation", *SHARES, title=title, box=None)
    for noise, correlation in _cases("with a limit"):
        cells = []
        for share in SHARES.values():
            early, seconds = [], []
            for _ in range(series):
                a, b = (noise * autoregressive(MOST_PAIRS, correlation, random) for _ in range(2))
                pairs, rejection = measured((a + math.log(LIMIT * share)).tolist(), b.tolist(), LIMIT)
                early.append(rejection)
                seconds.append(2 * DEFAULTS.block_s * pairs)
            cells.append(f"{np.mean(early):.1%}  {np.mean(seconds):.2f} s")
        table.add_row(f"{noise:.0%}", f"{correlation:g}", *cells)
    return table


def _cases(what: str) -> Iterable[tuple[float, float]]:
    return track(list(product(NOISES, CORRELATIONS)), what, console=Console(stderr=True), transient=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random, console = np.random.default_rng(args.seed), Console(width=140)
    for table in (coverage, stopped, rejected):
        console.print(table(args.series, random))
    looks = f"looks after {stopping.FIRST_LOOK} pairs and every {stopping.LOOK_EVERY} from there on"
    console.print(f"{args.series} series each; blocks of {DEFAULTS.block_s * 1e3:g} ms; {looks}", style="dim")


if __name__ == "__main__":
    main()
