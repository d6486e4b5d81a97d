"""Messages between a worker and whoever gave it a task, and how a task is carried out there.

A worker answers a call with any number of ``Said``, ``Logged`` and one ``Done`` or ``Failed``.
"""

from __future__ import annotations

import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError, StoppedError, WorkersError


@dataclass(frozen=True, slots=True)
class Call:
    """A task to be computed from the shared value of that id."""

    shared: str
    task: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """What a task has told."""

    event: Any


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of a logger in the worker."""

    name: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a task came to."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """What a task raised."""

    error: BaseException


_AHEAD = 50
"""Messages that a task may be ahead of whoever hears them."""
Message = Said | Logged | Done | Failed
STOP, HEARD = "stop", "heard"
"""Asks the task that is under way to end; says that one more message of it was heard."""


def dumps(message: object) -> bytes:
    """Return a message as bytes; what a task tells and returns are records of this program."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def loads(data: bytes) -> Any:
    """Return a message of the process that this one has started, or was started by."""
    return pickle.loads(data)  # noqa: S301 - both ends are one program


def carried_out(call: Call, shared: bytes | None, keep: dict[str, Any], answer: Answer) -> Done | Failed:
    """Compute a task in this process.

    Args:
        call: what to compute.
        shared: the payload of what it is computed from; None: it is in ``keep``.
        keep: what this process has unpacked; the last value stays there.
        answer: takes what the task tells meanwhile.
    """
    try:
        with _log_sent(answer):
            if shared is not None:
                keep.clear()
                keep[call.shared] = loads(shared)
            task = loads(call.task)
            return Done(task(keep[call.shared], answer.tell))
    except PipelineError as error:
        return Failed(error)
    except Exception as error:  # as torch or the user's code raised it; its traceback ends with this process
        error.add_note(f"in a worker:\n{traceback.format_exc()}")
        return Failed(
            error if _can_be_sent(error) else WorkersError(f"a worker raised {type(error).__name__}: {error}")
        )


class Answer:
    """Sends what a task tells; ends the task where it was asked to stop."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._stop = threading.Event()
        self._room = threading.Semaphore(_AHEAD)

    def begin(self) -> None:
        """Forget the task before, which may have been to stop, or whose last words nobody has heard."""
        self._stop.clear()
        self._room = threading.Semaphore(_AHEAD)

    def heard(self, count: int = 1) -> None:
        """Let the task say so many more things: called from another thread."""
        self._room.release(count)

    def stop(self) -> None:
        """End the task where it next says something: called from another thread."""
        self._stop.set()

    def tell(self, event: object) -> None:
        """Send what the task tells.

        Raises:
            StoppedError: once, where the task is to end.
        """
        if self._stop.is_set():
            self._stop.clear()
            raise StoppedError("stopped as requested; everything measured so far is kept")
        self._say(Said(event))

    def log(self, record: logging.LogRecord) -> None:
        """Send a logger's line."""
        self._say(Logged(record.name, record.levelno, record.getMessage()))

    def _say(self, message: Said | Logged) -> None:
        """Send a message; wait where those who hear it are too far behind, as with a disk that takes checkpoints."""
        room = self._room
        self._send(dumps(message))
        room.acquire()


class _Sending(logging.Handler):
    """Sends what is logged."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(logging.WARNING)
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        self._answer.log(record)


@contextmanager
def _log_sent(answer: Answer) -> Iterator[None]:
    """Send what is logged while the block lasts."""
    handler, root = _Sending(answer), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _can_be_sent(error: BaseException) -> bool:
    """Return whether an exception survives being pickled, as many with arguments of their own do not."""
    try:
        loads(dumps(error))
    except Exception:  # whatever the exception's class raises
        return False
    return True
