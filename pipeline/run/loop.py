"""Search loop: ask, build, measure, judge, tell; one trial after another.

The device is the bottleneck, so with ``lookahead`` the host builds the next candidate while the device measures. Where
workers build, several are built at once, and several boards measure side by side; trials are judged, told and stored in
the order in which they were asked for.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

from pipeline.errors import CandidateError
from pipeline.evaluation.candidate_builder import Built
from pipeline.records import Measurement, PruningPlan, Trial
from pipeline.search.strategy import Conditioned, Strategy
from pipeline.store.device_usage import Watch

_log = logging.getLogger(__name__)

Build = Callable[[PruningPlan], Built | Future[Built]]
"""Returns the candidate, or a future of it where it is built elsewhere; either raises CandidateError."""
Measure = Callable[[Built], tuple[Measurement, bool]]
"""Returns the measurement and whether it was known already."""
Judge = Callable[[Trial], Trial]
"""Adds reward, terms and feasibility."""
Started = tuple[Strategy, Trial, Future["Outcome"] | None]
"""Who asked for it, and hears what comes of it."""


@dataclass(frozen=True, slots=True)
class _Given:
    """Stands in a strategy's place where the plan is given."""

    plan: PruningPlan

    def ask(self) -> PruningPlan:
        return self.plan

    def tell(self, trial: Trial) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of building and measuring a candidate."""

    built: Built | CandidateError
    measured: tuple[Measurement, bool] | CandidateError | None = None
    """None: it could not be built."""
    seconds: float = 0.0
    """Of the measurement."""


def search(
    strategy: Strategy,
    build: Build,
    measure: Measure,
    judge: Judge,
    *,
    trials: int,
    first: int = 0,
    known: Mapping[int, Trial] | None = None,
    given: Sequence[PruningPlan] = (),
    lookahead: int = 0,
    boards: int = 1,
    stopping: Callable[[], bool] = lambda: False,
    watch: Watch | None = None,
) -> Iterator[Trial]:
    """Yield ``trials`` trials, numbered from ``first``; a failed candidate is a trial with a failure.

    Args:
        known: trials of an earlier part of this run, by index: passed to the strategy, not tried again.
        given: plans of the first trials, which the strategy is not asked for, nor told of.
        lookahead: how many candidates are started before the last one is through.
        boards: how many measure side by side.
        stopping: True ends the search after the trials that are pending.
        watch: notes what new trials spend their time on.

    Raises:
        DeviceError: the device was lost for good; every yielded trial stands.
    """
    known, watch = known or {}, watch or Watch()
    pending: deque[Started] = deque()
    device = ThreadPoolExecutor(boards, thread_name_prefix="device")
    try:
        for index in range(first, first + trials):
            if stopping():
                break
            asker = _Given(given[index - first]) if index - first < len(given) else strategy
            pending.append((asker, *_start_trial(index, asker, build, measure, known, device, watch)))
            while len(pending) > lookahead:
                yield _finish_trial(*pending.popleft(), judge)
        while pending:
            yield _finish_trial(*pending.popleft(), judge)
    finally:
        device.shutdown(cancel_futures=True)  # what is queued behind a lost device would only fail as well


def _start_trial(
    index: int,
    strategy: Strategy,
    build: Build,
    measure: Measure,
    known: Mapping[int, Trial],
    device: ThreadPoolExecutor,
    watch: Watch,
) -> tuple[Trial, Future[Outcome] | None]:
    start = time.perf_counter()
    with watch.doing("ask") if index not in known else nullcontext():
        plan = strategy.ask()
        condition = strategy.condition if isinstance(strategy, Conditioned) else ""
    seconds = {"ask": time.perf_counter() - start}
    if index in known:
        if known[index].plan != plan:
            _log.warning("trial %d was another plan before; what was measured then is kept", index)
        return known[index], None
    trial = Trial(index=index, plan=plan, key="", seconds=seconds, condition=condition)
    try:
        with watch.doing("build"):
            built = build(plan)
    except CandidateError as error:
        return replace(trial, failure=str(error)), None
    return trial, device.submit(_measured, measure, built, watch)


def _measured(measure: Measure, candidate: Built | Future[Built], watch: Watch) -> Outcome:
    """Wait for a candidate that is built elsewhere, and measure it; candidates are measured in the order of trials."""
    try:
        built = _awaited(candidate, watch)
    except CandidateError as error:
        return Outcome(error)
    start = time.perf_counter()
    try:
        with watch.doing("measure"):
            measured: tuple[Measurement, bool] | CandidateError = measure(built)
    except CandidateError as error:
        measured = error
    return Outcome(built, measured, time.perf_counter() - start)


def _awaited(candidate: Built | Future[Built], watch: Watch) -> Built:
    if isinstance(candidate, Built):
        return candidate
    with watch.doing("build"):
        return candidate.result()


def _finish_trial(strategy: Strategy, trial: Trial, pending: Future[Outcome] | None, judge: Judge) -> Trial:
    if pending is not None:
        trial = _judged(trial, pending.result(), judge)
    # What a failed trial was measured with, if it was, is logged but not passed to the strategy.
    strategy.tell(replace(trial, measurement=None) if trial.failure else trial)
    return trial


def _judged(trial: Trial, outcome: Outcome, judge: Judge) -> Trial:
    """Return the trial with its verdict; one that is refused a reward keeps its measurement beside the reason."""
    built, found = outcome.built, outcome.measured
    if isinstance(built, CandidateError):
        return replace(trial, failure=str(built))
    seconds = {**trial.seconds, **built.seconds, "measure": outcome.seconds}
    trial = replace(trial, key=built.candidate.key, candidate=built.candidate, seconds=seconds)
    if found is None or isinstance(found, CandidateError):
        return replace(trial, failure=str(found))
    measurement, cached = found
    measured = replace(trial, measurement=measurement, cached=cached)
    try:
        return judge(measured)
    except CandidateError as error:
        return replace(measured, failure=str(error))
