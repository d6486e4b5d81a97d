"""The method: candidate and reference take turns in one process, and every inference is timed on its own.

Load, wait until the board has cooled to the session's temperature, idle window (only when power is measured), warm-up,
then blocks of ``block_s`` in the order candidate reference reference candidate …, so that a slow drift of the board
touches both alike, until the candidate's latency and energy are exact enough, or it is surely slower than anybody
wants (see :mod:`device_agents.stopping`); then a second, shorter idle window.

The result holds raw samples; statistics are the host's:

{"candidate": {"blocks": [{"start_s", "end_s", "ms": [...]}, ...], "load_ms", "input": {"name", "shape", "dtype"}},
 "reference": the same, or null,
 "idle": [[start_s, end_s], ...],
 "settled": {"temperature_c", "waited_s", "reached": whether it was cool enough in time, null if nobody can tell},
 "early": whether it was stopped because it was surely slower than ``reject_above``,
 "power": {"source", "scope", "interval_s", "t_s": [...], "w": [...]} or null, put in by whoever ran the sensor,
 "before": telemetry, "during": [telemetry, ...] about one a second, between the blocks, "after": telemetry,
 "wall_s", "own_cpu_s": time and this process's own processor time between before and after, "cores",
 "peak_rss_mb", "runtime", "threads", "conditions": {"affinity", "spinning", what the runtime says of itself}}

Block, idle and power times share one clock, time.monotonic.
"""

import contextlib
import gc
import os
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from device_agents import board, plugins, stopping
from device_agents.arguments import Measure
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST, INVALID, REFUSED

_WARM_UP_RUNS = 5
_IDLE_AFTER_S = 4.0
_PROGRESS_EVERY_S = 1.0
_EARLY_LOOK_S = 2.0
"""Nothing is rejected before this, or before the shortest measurement where that is shorter."""

Emit = Callable[[Dict[str, Any]], None]
Windows = List[List[float]]
EnergyEnough = Callable[[Windows], bool]
"""Told each of the candidate's blocks as [start_s, end_s, inferences], says whether their energy is exact enough."""


def run(asked: Measure, folder: str, emit: Emit, energy_enough: EnergyEnough = lambda _: True) -> Dict[str, Any]:
    """Measure ``asked.candidate``, and ``asked.reference`` beside it; both are paths here.

    Args:
        energy_enough: asks whoever reads the sensor; not asked when no power is wanted.

    Raises:
        AgentError: REFUSED for whatever the runtime raises, INVALID for outputs that are not finite.
    """
    progress = Progress(emit)
    runtime, version = open_runtime(asked.runtime)
    with refusals():
        candidate = Subject(runtime, asked.candidate, asked)
        reference = Subject(runtime, asked.reference, asked) if asked.reference else None
    subjects = [candidate] + ([reference] if reference else [])
    settled = _settle(asked, progress)
    before, start_s, own_before_s = board.telemetry(folder), time.monotonic(), _own_cpu_s()
    idle = [_idle(asked.idle_s, progress)] if asked.power.wanted else []
    turns = Turns(candidate, reference, asked, folder, energy_enough)
    with refusals(), _no_garbage_collection():
        _warm_up(subjects, asked, progress)
        if not candidate.model.finite():
            raise AgentError(INVALID, "the candidate's outputs are not finite numbers")
        turns.alternate(progress)
    after, end_s, own_after_s = board.telemetry(folder), time.monotonic(), _own_cpu_s()
    if asked.power.wanted:
        idle.append(_idle(min(_IDLE_AFTER_S, asked.idle_s), progress))
    return {
        "candidate": candidate.result(),
        "reference": reference.result() if reference else None,
        "idle": idle,
        "settled": settled,
        "early": turns.early,
        "power": None,
        "before": before,
        "during": turns.telemetry,
        "after": after,
        "wall_s": round(end_s - start_s, 3),
        "own_cpu_s": round(own_after_s - own_before_s, 3),
        "cores": board.cores(),
        "peak_rss_mb": candidate.peak_rss_mb,
        "runtime": "%s %s" % (asked.runtime, version),
        "threads": asked.threads,
        "conditions": dict(
            {"affinity": asked.affinity, "spinning": asked.spinning}, **dict(getattr(candidate.model, "about", {}))
        ),
    }


def open_runtime(name: str) -> Tuple[Any, str]:
    """Return the runtime's module and version, its library imported; BAD_REQUEST when this board cannot use it."""
    runtime = plugins.load("device_agents.runtimes", name)
    if runtime.installed() is None:
        mend = getattr(runtime, "INSTALL", "pip install " + name)
        raise AgentError(BAD_REQUEST, "runtime %s is not installed for this python: %s" % (name, mend))
    try:
        return runtime, runtime.version()
    except Exception as error:  # a broken library raises what it likes while it is imported
        raise AgentError(BAD_REQUEST, "runtime %s cannot be used: %s: %s" % (name, type(error).__name__, error))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever a runtime raises, and each raises its own kinds, into REFUSED."""
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        raise AgentError(REFUSED, "%s: %s" % (type(error).__name__, error))


class Subject:
    """One model under measurement, loaded, with the blocks timed so far."""

    def __init__(self, runtime: Any, path: str, asked: Measure) -> None:
        start = time.perf_counter()
        self.model = runtime.load(path, asked.conditions, asked.seed)
        self.load_ms = (time.perf_counter() - start) * 1e3
        self.model.step()
        self.peak_rss_mb = board.peak_rss_mb()
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


class Progress:
    """Tells the host about every second what is going on, between the blocks, never inside one."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._start = time.monotonic()
        self._next = 0.0
        self._stage = ""

    def tell(self, stage: str) -> None:
        """Send an event when a second has passed or the stage is new."""
        now = time.monotonic()
        if now < self._next and stage == self._stage:
            return
        self._next, self._stage = now + _PROGRESS_EVERY_S, stage
        self._emit(
            {
                "event": "progress",
                "stage": stage,
                "seconds": round(now - self._start, 3),
                "temperature_c": board.temperature_c(),
            }
        )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _idle(seconds: float, progress: Progress) -> List[float]:
    """Sleep, with the models loaded; return the window that was slept through."""
    start = time.monotonic()
    end = start + seconds
    while time.monotonic() < end:
        progress.tell("idle")
        time.sleep(max(0.0, min(_PROGRESS_EVERY_S, end - time.monotonic())))
    return [start, time.monotonic()]


def _warm_up(subjects: List[Subject], asked: Measure, progress: Progress) -> None:
    """Run each model for a while and forget the times: caches, clocks and the runtime's own plans settle."""
    for subject in subjects:
        progress.tell("warm-up")
        end, runs = time.monotonic() + asked.warmup_s, 0
        while runs < _WARM_UP_RUNS or time.monotonic() < end:
            subject.model.step()
            runs += 1
            progress.tell("warm-up")


def _settle(asked: Measure, progress: Progress) -> Dict[str, Any]:
    """Wait until the board is no hotter than asked for, or long enough."""
    start = time.monotonic()
    temperature_c = board.temperature_c()
    limit_c = asked.settle_below_c
    while limit_c is not None and temperature_c is not None and temperature_c > limit_c:
        if time.monotonic() - start >= asked.settle_s:
            break
        progress.tell("cool down")
        time.sleep(min(_PROGRESS_EVERY_S, asked.settle_s))
        temperature_c = board.temperature_c()
    known = limit_c is not None and temperature_c is not None
    return {
        "temperature_c": temperature_c,
        "waited_s": round(time.monotonic() - start, 3),
        "reached": bool(temperature_c <= limit_c) if known else None,  # type: ignore[operator]
    }


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system


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
            if self._enough(time.monotonic() - start):
                return

    def _enough(self, elapsed_s: float) -> bool:
        asked, candidate = self._asked, self._candidate
        if elapsed_s >= asked.max_s:
            return True
        if self._reference and asked.reject_above is not None and elapsed_s >= min(asked.min_s, _EARLY_LOOK_S):
            shares = [a / b for a, b in zip(candidate.medians_ms, self._reference.medians_ms)]
            self.early = stopping.surely_above(shares, asked.reject_above)
        if self.early:
            return True
        timed = stopping.enough(
            candidate.medians_ms,
            runs=candidate.runs,
            active_s=candidate.active_s,
            min_s=asked.min_s,
            ci_rel=asked.ci_rel,
        )
        return timed and (not asked.power.wanted or self._energy_enough(self._new_windows()))

    def _new_windows(self) -> Windows:
        """Return the candidate's blocks since the last call."""
        fresh = self._candidate.blocks[self._told :]
        self._told = len(self._candidate.blocks)
        return [[block["start_s"], block["end_s"], len(block["ms"])] for block in fresh]

    def _look(self) -> None:
        """Take the board's telemetry about once a second."""
        now = time.monotonic()
        if now >= self._looked + _PROGRESS_EVERY_S:
            self._looked = now
            self.telemetry.append(board.telemetry(self._folder))


def turns(candidate: Any, reference: Optional[Any], number: int) -> List[Any]:
    """Return who runs in turn ``number``, in order.

    >>> [turns("A", "B", n) for n in range(3)]
    [['A', 'B'], ['B', 'A'], ['A', 'B']]
    """
    if reference is None:
        return [candidate]
    return [reference, candidate] if number % 2 else [candidate, reference]
