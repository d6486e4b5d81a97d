"""Worker pool: hands tasks to workers, does a lost worker's task again, and says which worker does what."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from pipeline.errors import StoppedError, WorkerLostError, WorkersError
from pipeline.events import Note, Stage, StageProgress, Working
from pipeline.workers.executor import Inputs, Result, Shared, Task, Tell
from pipeline.workers.messages import Done, Failed, Logged, Message, Said

ATTEMPTS = 3
"""So often a task is begun whose worker is lost."""
_LAST_WORDS_S = 10.0
"""So long tasks may take, when the pool is closed, to put away how far they have come."""


class WorkerGoneError(Exception):
    """A worker has ended, or cannot be reached, in the middle of a task; says how."""


class _NoRoomError(Exception):
    """A worker cannot be started any more, as where its host is gone; there are others."""


class Worker(Protocol):
    """A process somewhere, which computes one task at a time."""

    @property
    def name(self) -> str:
        """What it is called: ``worker 2``, and where it is."""
        ...

    def begin(self, task: bytes, shared: Shared[Any]) -> None:
        """Send a task and, where the worker has not got it, what it is computed from; raises WorkerGoneError."""
        ...

    def answer(self) -> Message:
        """Wait for the next message about the task; raises WorkerGoneError."""
        ...

    def stop(self) -> None:
        """Ask the task to end where it next says something; raises WorkerGoneError."""
        ...

    def close(self) -> None:
        """End the worker, whatever it does."""
        ...


Start = Callable[[int, bool], Worker]
"""Starts a worker, given its number and whether it has a GPU; raises WorkersError."""


class WorkerPool:
    """Workers that are started when there is something to do for them."""

    is_elsewhere = True

    def __init__(self, start: Start, size: int, threads: Callable[[int], int], *, gpus: int = 0) -> None:
        """Start none yet.

        Args:
            start: starts a worker.
            size: workers at most.
            threads: with how many each computes, where this process has so many.
            gpus: of the workers, so many have one each while they train.
        """
        self.size = size
        self._start, self._threads, self._gpus = start, threads, gpus
        self._runners = ThreadPoolExecutor(size, thread_name_prefix="worker")
        self._free: queue.PriorityQueue[int] = queue.PriorityQueue()
        for number in range(size):
            self._free.put(number)
        self._workers: dict[int, tuple[Worker, bool]] = {}
        """By number, and whether each has a GPU."""
        self._busy: dict[int, Worker] = {}
        self._closing = False
        self._telling = threading.Lock()

    def threads(self, available: int) -> int:
        """Return with how many threads a task should compute, where this process has ``available``."""
        return self._threads(available)

    def submit(
        self, begin: Callable[[], Task[Inputs, Result]], shared: Shared[Inputs], *, what: str, tell: Tell
    ) -> Future[Result]:
        """Give a task to the next worker that is free: see ``Executor``."""
        return self._runners.submit(self._see_through, begin, shared, what, tell)

    def close(self) -> None:
        """Let what is under way put away how far it has come, then end every worker."""
        self._closing = True
        for worker in list(self._busy.values()):
            with contextlib.suppress(WorkerGoneError):
                worker.stop()
        self._runners.shutdown(wait=False, cancel_futures=True)
        late = threading.Timer(_LAST_WORDS_S, self._end_all)
        late.start()
        self._runners.shutdown(wait=True)
        late.cancel()
        self._end_all()

    def _end_all(self) -> None:
        for worker, _ in list(self._workers.values()):
            worker.close()
        self._workers.clear()

    # ------------------------------------------------------------ in the thread of one worker

    def _see_through(
        self, begin: Callable[[], Task[Inputs, Result]], shared: Shared[Inputs], what: str, tell: Tell
    ) -> Result:
        while True:
            number = self._free.get()
            try:
                return self._attempt(number, begin, shared, what, tell)
            except _NoRoomError as error:  # the others go on without that worker
                self._say(tell, Note(f"{what} waits for another worker: {error}"))
                number = -1
            finally:
                if number >= 0:
                    self._free.put(number)

    def _attempt(
        self, number: int, begin: Callable[[], Task[Inputs, Result]], shared: Shared[Inputs], what: str, tell: Tell
    ) -> Result:
        from pipeline.workers.payload import packed  # torch takes seconds to import

        for attempt in range(1, ATTEMPTS + 1):
            task = begin()
            worker = self._ready(number, task.trains)
            if self._closing:
                raise StoppedError(f"{what} was not begun; the run can be resumed")
            self._busy[number] = worker
            try:
                result: Result = self._computed(worker, packed(task), shared, what, tell)
                return result
            except WorkerGoneError as how:
                self._workers.pop(number, None)
                worker.close()
                if self._closing:
                    raise StoppedError(f"{what} was stopped; the run can be resumed") from how
                if attempt < ATTEMPTS:
                    self._say(
                        tell, Note(f"{worker.name} was lost: {how}; {what} is done again ({attempt + 1} of {ATTEMPTS})")
                    )
                last = how
            finally:
                self._busy.pop(number, None)
                self._say(tell, Working(worker.name, ""))
        raise WorkerLostError(f"{what}: its worker was lost {ATTEMPTS} times, the last time: {last}") from last

    def _ready(self, number: int, trains: bool) -> Worker:
        """Return the worker of that number; where it is to have a GPU, or not any more, it is started anew."""
        gpu = trains and number < self._gpus
        if number in self._workers:
            worker, has_gpu = self._workers[number]
            if has_gpu == gpu:
                return worker
            worker.close()
            del self._workers[number]
        try:
            worker = self._start(number, gpu)
        except WorkersError as error:
            if self._workers:
                raise _NoRoomError(str(error)) from error
            raise
        self._workers[number] = worker, gpu
        return worker

    def _computed(self, worker: Worker, task: bytes, shared: Shared[Any], what: str, tell: Tell) -> Any:
        """Return a task's result; what it says is passed on, and where hearing it raises, the task ends by that."""
        ended_by: Exception | None = None
        hearing = _Hearing(worker.name, what)
        self._say(tell, Working(worker.name, what))
        worker.begin(task, shared)
        while True:
            match worker.answer():
                case Said(event):
                    try:
                        self._say(tell, hearing.heard(event))
                    except Exception as error:
                        ended_by = ended_by or error
                        worker.stop()
                case Logged(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                case Failed(error):
                    raise ended_by or error
                case Done(result):
                    if ended_by is not None:
                        raise ended_by
                    return result

    def _say(self, tell: Tell, event: object) -> None:
        """Pass an event on; those who hear it are told one thing at a time."""
        with self._telling:
            tell(event)


class _Hearing:
    """Turns what a task says of its stages into what its worker does."""

    def __init__(self, worker: str, what: str) -> None:
        self._worker, self._what = worker, what
        self._now = Working(worker, what)

    def heard(self, event: object) -> object:
        match event:
            case Stage(name, total):
                self._now = Working(self._worker, name, 0, total)
                return self._now
            case StageProgress(done, note):
                return Working(self._worker, self._now.what, done, self._now.total, note)
            case Note(text):
                return Note(f"{self._what}: {text}")
        return event
