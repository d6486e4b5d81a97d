"""Cycles of doubling length: a schedule for a training whose length nobody knows beforehand.

In each cycle the learning rate rises and falls to zero, so that there is a trained network at its end; the next one is
twice as long. Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, with T_mult = 2. A
cycle that brings no gain is the last. A training of a given length is a single cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FEWEST = 2
"""The first cycle is short: that it gains nothing says little."""
_ROUNDING = 1e-9


@dataclass(kw_only=True)
class Cycles:
    """Where cycles have ended, and where the present one ends, in gradient steps."""

    first: int
    """Length of the first."""
    most: int
    """Steps of all together, at most."""
    ends: list[int] = field(default_factory=list)
    least_gain: float = 0.0
    """A smaller gain counts for none."""
    best: float = float("-inf")
    """The best score when the present cycle began."""

    @property
    def start(self) -> int:
        """The step after which the present cycle began."""
        return self.ends[-2] if len(self.ends) > 1 else 0

    @property
    def end(self) -> int:
        """The last step of the present cycle."""
        return self.ends[-1] if self.ends else 0

    def begin(self, best: float, room: int | None = None) -> bool:
        """Begin the next cycle; False: there is no room for another.

        One after which less than another would be left takes everything: no time is left over.

        Args:
            best: the best score so far.
            room: steps for which there is time; None: for all.

        >>> cycles = Cycles(first=2, most=20)
        >>> [cycles.begin(score) for score in (0.1, 0.2, 0.3, 0.4)], cycles.ends
        ([True, True, True, False], [2, 6, 20])
        """
        left = self.most - self.end if room is None else min(room, self.most - self.end)
        if left < 1:
            return False
        length = self.first << len(self.ends)
        self.ends.append(self.end + (length if left >= 3 * length else left))
        self.best = best
        return True

    def has_gained(self, best: float) -> bool:
        """Return whether the present cycle has brought a gain, or is too early to tell."""
        gain = best - self.best
        return (gain > 0 and gain >= self.least_gain - _ROUNDING) or len(self.ends) < FEWEST

    def shorten(self, step: int, room: int) -> None:
        """Let the present cycle end as soon as the time after ``step`` is over."""
        self.ends[-1] = min(self.end, max(step + 1, step + room))

    def rate(self, step: int, warmup: float) -> float:
        """Return the learning rate's factor at a step: linear up in the first share, then down by a cosine.

        >>> cycles = Cycles(first=100, most=100)
        >>> cycles.begin(0.0), [round(cycles.rate(step, 0.1), 2) for step in (0, 10, 55, 100)]
        (True, [0.01, 1.0, 0.5, 0.0])
        """
        progress = (step - self.start) / (self.end - self.start)
        if progress < warmup:
            return max(0.01, progress / warmup)
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
