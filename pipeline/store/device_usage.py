"""Device usage of a search: measuring, waiting for the host, idle.

*Idle* is time in which no measurement ran and one could have. What could have depends on where the device is.

A board of its own could measure whenever it is free: all time without a measurement is idle, whatever the host did
meanwhile; what it did (asked the strategy, built a candidate) is reported beside it, so that one sees what to speed up.

The same holds for the machine that the user works on, as long as it has cores to build on beside a measurement. Where
it has none, or power is measured, host and device are one *shared* processor: while the host asks or builds, a
measurement would be invalid, so it could not run; that time is no idle time but the host's own work, and is reported as
such. What is idle there is the rest: neither asked nor built nor measured, as while a trial is handed over, judged,
stored and reported. By this definition its idle share is small almost by construction, which is why the share that was
spent measuring is always shown with it.

Measuring is all that a request for a measurement takes: sending the skeleton, loading, cooling, warm-up, windows at
rest and repeats included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Activity = Literal["measure", "ask", "build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Seconds of a search; the host's count only where nothing was measured meanwhile. They add up to ``wall_s``."""

    wall_s: float
    measuring_s: float
    asking_s: float
    building_s: float
    rest_s: float
    """Judging, storing, telling, handing over."""
    shared: bool
    """Whether the host could do nothing while the device measured."""

    @property
    def idle_s(self) -> float:
        """Time in which no measurement ran and one could have."""
        return self.rest_s if self.shared else self.rest_s + self.asking_s + self.building_s

    def __add__(self, other: Usage) -> Usage:
        """Return both together, as of a run that was resumed."""
        return Usage(
            wall_s=self.wall_s + other.wall_s, measuring_s=self.measuring_s + other.measuring_s,
            asking_s=self.asking_s + other.asking_s, building_s=self.building_s + other.building_s,
            rest_s=self.rest_s + other.rest_s, shared=self.shared,
        )  # fmt: skip

    def __str__(self) -> str:
        """Return the shares in words.

        >>> str(Usage(wall_s=100, measuring_s=92, asking_s=3, building_s=5, rest_s=0, shared=False))
        'device measuring 92.0 %, idle 8.0 % (ask 3.0, build 5.0, rest 0.0)'
        >>> str(Usage(wall_s=100, measuring_s=60, asking_s=10, building_s=29, rest_s=1, shared=True))
        'device measuring 60.0 %, host working on the same processor 39.0 % (ask 10.0, build 29.0), idle 1.0 %'
        """
        measuring, idle, ask, build, rest = (
            f"{100 * seconds / self.wall_s:.1f}" if self.wall_s else "0.0"
            for seconds in (self.measuring_s, self.idle_s, self.asking_s, self.building_s, self.rest_s)
        )
        if not self.shared:
            return f"device measuring {measuring} %, idle {idle} % (ask {ask}, build {build}, rest {rest})"
        host = f"{100 * (self.asking_s + self.building_s) / self.wall_s:.1f}" if self.wall_s else "0.0"
        return (
            f"device measuring {measuring} %, host working on the same processor {host} % (ask {ask}, build {build}), "
            f"idle {idle} %"
        )


class Watch:
    """Notes what is done when; activities may overlap, as measuring and building do with a board of its own."""

    def __init__(self) -> None:
        self._spans: list[tuple[Activity, float, float]] = []

    @contextmanager
    def doing(self, what: Activity) -> Iterator[None]:
        """Note how long the block takes; called from any thread."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._spans.append((what, start, time.monotonic()))

    def usage(self, *, shared: bool) -> Usage | None:
        """Return how the time from the first activity until now was spent; None where nothing was done."""
        if not self._spans:
            return None
        return spent(self._spans, until=time.monotonic(), shared=shared)


def spent(spans: Sequence[tuple[Activity, float, float]], *, until: float, shared: bool) -> Usage:
    """Return how the time from the first span's start to ``until`` was spent.

    >>> spent([("ask", 0, 1), ("build", 1, 3), ("measure", 3, 9), ("build", 4, 6)], until=10, shared=False)
    Usage(wall_s=10, measuring_s=6, asking_s=1, building_s=2, rest_s=1, shared=False)
    """
    begin = min(start for _, start, _ in spans)
    edges = sorted({until, *(edge for _, start, end in spans for edge in (start, end) if edge <= until)})
    seconds: dict[str, float] = {"measure": 0, "ask": 0, "build": 0, "rest": 0}
    for left, right in pairwise(edges):
        doing = {what for what, start, end in spans if start < right and end > left}
        first = next((what for what in ("measure", "ask", "build") if what in doing), "rest")
        seconds[first] += right - left
    return Usage(
        wall_s=until - begin, measuring_s=seconds["measure"], asking_s=seconds["ask"], building_s=seconds["build"],
        rest_s=seconds["rest"], shared=shared,
    )  # fmt: skip
