"""The method: candidate and reference take turns in one process, and every inference is timed on its own.

Load, wait until the board has cooled to the session's temperature, idle window (only when power is measured), warm-up,
then blocks of ``block_s`` in turns (see :mod:`device_agents.turns`) until the candidate's latency over the reference's
and its energy are exact enough, or it is surely slower than anybody wants; then a second, shorter idle window.

The result holds raw samples; statistics are the host's:

{"candidate": {"blocks": [{"start_s", "end_s", "ms": [...]}, ...], "load_ms", "input": {"name", "shape", "dtype"}},
 "reference": the same, or null,
 "idle": [[start_s, end_s], ...],
 "settled": {"temperature_c", "waited_s", "reached": whether it was cool enough in time, null if nobody can tell},
 "early": whether it was stopped because it was surely slower than ``reject_above``,
 "power": {"source", "scope", "interval_s", "t_s": [...], "w": [...], "dropped": readings that could not be true} or
 null, put in by whoever ran the sensor,
 "before": telemetry, "during": [telemetry, ...] about one a second, between the blocks, "after": telemetry,
 "wall_s", "own_cpu_s": time and this process's own processor time between before and after, "cores",
 "peak_rss_mb", "runtime", "threads", "conditions": {"affinity", "spinning", what the runtime says of itself}}

Block, idle and power times share one clock, time.monotonic.
"""

import contextlib
import gc
import os
import time
from typing import Any, Dict, Iterator, List, Optional

from device_agents import board, telemetry
from device_agents.arguments import Measure
from device_agents.cooling import settle
from device_agents.errors import AgentError
from device_agents.progress import EVERY_S, Progress
from device_agents.protocol import INVALID
from device_agents.runtimes import open_runtime, refusals
from device_agents.turns import EnergyEnough, Subject, Turns
from device_agents.wire import Emit

_WARM_UP_RUNS = 5
_IDLE_AFTER_S = 4.0


def run(
    asked: Measure,
    folder: str,
    emit: Emit,
    energy_enough: EnergyEnough = lambda _: True,
    reference_first: bool = False,
) -> Dict[str, Any]:
    """Measure ``asked.candidate``, and ``asked.reference`` beside it; both are paths here.

    Args:
        energy_enough: asks whoever reads the sensor; not asked when no power is wanted.
        reference_first: the reference is loaded before the candidate (see ``work.py``).

    Raises:
        AgentError: REFUSED for whatever the runtime raises, INVALID for outputs that are not finite.
    """
    progress = Progress(emit)
    runtime, version = open_runtime(asked.runtime)
    own_mb = telemetry.rss_mb()
    with refusals():
        if asked.reference and reference_first:
            reference = Subject(runtime, asked.reference, asked)  # type: Optional[Subject]
            candidate = Subject(runtime, asked.candidate, asked)
        else:
            candidate = Subject(runtime, asked.candidate, asked)
            reference = Subject(runtime, asked.reference, asked) if asked.reference else None
    subjects = [candidate] + ([reference] if reference else [])
    settled = settle(asked.settle_below_c, asked.settle_s, progress)
    before, start_s, own_before_s = telemetry.now(folder), time.monotonic(), _own_cpu_s()
    idle = [_idle(asked.idle_s, progress)] if asked.power.wanted else []
    turns = Turns(candidate, reference, asked, folder, energy_enough)
    with refusals(), _no_garbage_collection():
        _warm_up(subjects, asked, progress)
        if not candidate.model.finite():
            raise AgentError(INVALID, "the candidate's outputs are not finite numbers")
        turns.alternate(progress)
    after, end_s, own_after_s = telemetry.now(folder), time.monotonic(), _own_cpu_s()
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
        "peak_rss_mb": _peak_mb(own_mb, candidate),
        "runtime": "%s %s" % (asked.runtime, version),
        "threads": asked.threads,
        "conditions": dict(
            {"affinity": asked.affinity, "spinning": asked.spinning}, **dict(getattr(candidate.model, "about", {}))
        ),
    }


def _peak_mb(own_mb: Optional[float], candidate: Subject) -> Optional[float]:
    """Return the most memory of a process that loads the candidate alone: ours, and what loading it has added."""
    return None if own_mb is None or candidate.added_mb is None else own_mb + candidate.added_mb


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
        time.sleep(max(0.0, min(EVERY_S, end - time.monotonic())))
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


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system
