"""How often printed intervals hold a known truth: coverage, width and bias of each figure, over many runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.records import Interval


@dataclass(frozen=True, slots=True)
class Coverage:
    """How one printed interval compares with the truth, over so many of them; shares as fractions."""

    count: int
    holds: float
    holds_error: float
    half_width: float
    """Mean, over the truth."""
    bias: float
    """Mean of figure over truth, less one."""
    bias_error: float


@dataclass(slots=True)
class Findings:
    """What was measured on one board, run by run."""

    intervals: dict[str, list[tuple[Interval, float]]] = field(default_factory=lambda: defaultdict(list))
    """Figure's name → each interval and the truth."""
    rejected: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    """Kind of network → whether each was stopped early."""
    board_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """What was asked for → the board's seconds that each took, repeats included."""
    processes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """What was asked for → processes that each took."""
    none_chosen: int = 0

    def coverage(self, name: str) -> Coverage | None:
        """Return how well one printed interval did, None where there is none."""
        if not (seen := self.intervals.get(name)):
            return None
        low, value, high, truth = np.array([(i.low, i.value, i.high, truth) for i, truth in seen]).T
        holds, off = float(np.mean((low <= truth) & (truth <= high))), value / truth - 1
        root = math.sqrt(len(seen))
        return Coverage(
            len(seen), holds, math.sqrt(holds * (1 - holds)) / root, float(np.mean((high - low) / 2 / truth)),
            float(off.mean()), float(off.std()) / root,
        )  # fmt: skip

    def add(self, other: Findings) -> None:
        """Take in what was measured on another board."""
        for name, seen in other.intervals.items():
            self.intervals[name] += seen
        for kind, early in other.rejected.items():
            self.rejected[kind] += early
        for asked, seconds in other.board_s.items():
            self.board_s[asked] += seconds
        for asked, count in other.processes.items():
            self.processes[asked] += count
        self.none_chosen += other.none_chosen

    def saved_s(self, kind: str) -> float:
        """Return the board's seconds that rejecting saves in a measurement of such a network, on average."""
        return float(np.mean(self.board_s["plain"]) - np.mean(self.board_s[kind]))


def share(seen: Sequence[bool]) -> tuple[float, float]:
    """Return how many of them are true, as a fraction, and its standard error.

    >>> share([True, False, False, False])
    (0.25, 0.21650635094610965)
    """
    value = float(np.mean(seen))
    return value, math.sqrt(value * (1 - value) / len(seen))
