"""Candidate and reference in turns, block by block, until enough is known of the one over the other.

The order is candidate reference reference candidate …, so that a slow drift of the board touches both alike. When it is
enough is :mod:`device_agents.stopping`'s to say.
"""

import time
from typing import Any, Callable, Dict, List, Optional

from device_agents import stopping, telemetry
from device_agents.arguments import Measure
from device_agents.progress import EVERY_S, Progress

Windows = List[List[float]]
"""Of one turn: each model's block as [start_s, end_s, inferences], the candidate's first."""
EnergyEnough = Callable[[List[Windows]], bool]
"""Told the turns since it was last asked, says whether their energy is exact enough."""


class Subject:
    """One model under measurement, loaded, with the blocks timed so far."""

    def __init__(self, runtime: Any, path: str, asked: Measure) -> None:
        before_mb = telemetry.rss_mb() if telemetry.reset_peak_rss() else None
        start = time.perf_counter()
        self.model = runtime.load(path, asked.conditions, asked.seed)
        self.load_ms = (time.perf_counter() - start) * 1e3
        self.model.step()
        peak_mb = telemetry.peak_rss_mb()
        self.added_mb = None if before_mb is None or peak_mb is None else max(0.0, peak_mb - before_mb)
        self.blocks: List[Dict[str, Any]] = []
        self.medians_ms: List[float] = []
        self.active_s = 0.0
        self.runs = 0

    def time_block(self, seconds: float) -> None:
        """Run for ``seconds``, at least once, and keep the samples."""
        block = time_block(self.model.step, seconds)
        self.blocks.append(block)
        self.medians_ms.append(stopping.median(block["ms"]))
        self.active_s += block["end_s"] - block["start_s"]
        self.runs += len(block["ms"])

    def result(self) -> Dict[str, Any]:
        """Return the raw samples, milliseconds rounded to nanoseconds."""
        name, shape, dtype = self.model.inputs[0]
        blocks = [dict(block, ms=[round(value, 6) for value in block["ms"]]) for block in self.blocks]
        return {
            "blocks": blocks,
            "load_ms": round(self.load_ms, 6),
            "input": {"name": name, "shape": shape, "dtype": dtype},
        }


def time_block(step: Callable[[], None], seconds: float) -> Dict[str, Any]:
    """Call ``step`` back to back for ``seconds``, at least once; every call is timed."""
    clock = time.perf_counter
    ms: List[float] = []
    start_s = time.monotonic()
    end = clock() + seconds
    now = 0.0
    while now < end:
        before = clock()
        step()
        now = clock()
        ms.append((now - before) * 1e3)
    return {"start_s": start_s, "end_s": time.monotonic(), "ms": ms}


class Turns:
    """Candidate and reference in turns, until enough is known of the candidate."""

    def __init__(
        self,
        candidate: Subject,
        reference: Optional[Subject],
        asked: Measure,
        folder: str,
        energy_enough: EnergyEnough,
    ) -> None:
        self.telemetry: List[Dict[str, Any]] = []
        self.early = False
        self._candidate = candidate
        self._reference = reference
        self._asked = asked
        self._folder = folder
        self._energy_enough = energy_enough
        self._looked = 0.0
        self._told = 0

    def alternate(self, progress: Progress) -> None:
        """Run the blocks."""
        start = time.monotonic()
        while True:
            for subject in turns(self._candidate, self._reference, len(self._candidate.blocks)):
                progress.tell("measure")
                self._look()
                subject.time_block(self._asked.block_s)
            if self.over(time.monotonic() - start):
                return

    def over(self, elapsed_s: float) -> bool:
        """Whether the pairs so far are enough, or the time is up, or the candidate is surely not wanted."""
        asked, candidate = self._asked, self._candidate
        if elapsed_s >= asked.max_s:
            return True
        reference_ms = self._reference.medians_ms if self._reference else None
        if reference_ms and asked.reject_above is not None:
            self.early = stopping.surely_above(candidate.medians_ms, reference_ms, asked.reject_above)
        if self.early:
            return True
        timed = stopping.enough(
            candidate.medians_ms,
            reference_ms,
            runs=candidate.runs,
            active_s=candidate.active_s,
            min_s=asked.min_s,
            ci_rel=asked.ci_rel,
        )
        return timed and (not asked.power.wanted or self._energy_enough(self._new_windows()))

    def _new_windows(self) -> List[Windows]:
        """Return the turns since the last call."""
        subjects = [self._candidate] + ([self._reference] if self._reference else [])
        fresh = zip(*(subject.blocks[self._told :] for subject in subjects))
        self._told = len(self._candidate.blocks)
        return [[[block["start_s"], block["end_s"], len(block["ms"])] for block in turn] for turn in fresh]

    def _look(self) -> None:
        """Take the board's telemetry about once a second."""
        now = time.monotonic()
        if now >= self._looked + EVERY_S:
            self._looked = now
            self.telemetry.append(telemetry.now(self._folder))


def turns(candidate: Any, reference: Optional[Any], number: int) -> List[Any]:
    """Return who runs in turn ``number``, in order.

    >>> [turns("A", "B", n) for n in range(3)]
    [['A', 'B'], ['B', 'A'], ['A', 'B']]
    """
    if reference is None:
        return [candidate]
    return [reference, candidate] if number % 2 else [candidate, reference]
