"""Exit codes of interrupted commands: a signal, a closed pipe, a full disk.

Imports the standard library alone: a signal may come while the rest is being imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 2.0
"""So long may what is under way take to end; then the process ends without it."""
_IMPORTING = "<frozen importlib._bootstrap>"
"""What Python calls the file of its import system."""
_SHOW_CURSOR = "\x1b[?25h"


class Ending(BaseException):
    """The process ends with a status; no Exception, so that whoever goes on after any of those ends, too."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status

    def leave(self) -> None:
        """End the process; its threads and what is still open end with it."""
        if reason := str(self):
            say(reason)
        os._exit(self.status)


class AtOnce:
    """What a signal calls while nothing is under way that is worth being finished."""

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words
        self._said = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """End the process by unwinding it, in silence from here on: imports that are cut off print what they like.

        Out of an import there is no way: a library's C code may make another error of what is raised in it, or abort.
        """
        self.say()
        if _is_importing(frame):
            os._exit(128 + number)
        raise Ending(128 + number)

    def say(self) -> None:
        """Say that the process was stopped, once, as the last that it says."""
        if not self._said:
            self._said = True
            say(self._words())
            to_nowhere([2])


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported in a frame or in one of its callers."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False


@contextmanager
def ended_at_once(words: Callable[[], str] = lambda: "stopped") -> Iterator[None]:
    """End the process at once where a signal comes while the block lasts.

    A signal that was ignored from the start stays ignored, so that nohup works.

    Args:
        words: what is said then.
    """
    with handled(AtOnce(words)):
        yield


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler hear the signals that ask a process to end, but those that are ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def watch() -> None:
    """End the process ``GRACE_S`` after a signal that ends it at once, even if the interpreter does not get to it.

    Python calls a signal's handler only between two steps of its own; what is computed, or waited for, in C goes on.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _watch(reader: int) -> None:
    while numbers := os.read(reader, 1):
        handler = signal.getsignal(numbers[0])
        if isinstance(handler, AtOnce):
            time.sleep(GRACE_S)
            handler.say()
            os._exit(128 + numbers[0])


def say(words: str) -> None:
    """Write a line to standard error, and let a terminal show its cursor, which progress hides."""
    if sys.stderr is not None:  # closed, and not yet replaced
        sys.stderr.write(f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}{words}\n")
        sys.stderr.flush()


def to_nowhere(descriptors: Iterable[int]) -> None:
    """Let what would be written to descriptors vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
