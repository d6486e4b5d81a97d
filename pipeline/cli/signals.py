"""Signal handling: the first Ctrl-C, SIGTERM or SIGHUP asks to stop, the second stops at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from pipeline.cli.console import err
from pipeline.cli.exits import ended_at_once, handled, to_nowhere
from pipeline.errors import StoppedError
from pipeline.events import Event, Listener, Waiting

STOPPED = 130


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Give the question "was I asked to stop?".

    The second time ends the process there and then, whatever it waits for: a run's store survives that as it survives
    `kill -9`, and the agent ends when the line to it closes. A signal that was ignored from the start stays ignored,
    so that nohup works.
    """
    asked = False
    terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        nonlocal asked
        if number == signal.SIGHUP:
            to_nowhere(terminals)  # writing to a terminal that is gone would fail
        if asked:
            err.show_cursor()
            os._exit(STOPPED)
        asked = True
        err.print("finishing what is under way, then stopping; Ctrl-C again stops at once")

    with handled(ask):
        yield lambda: asked


class StartUp:
    """What comes before a run: nothing that is worth being finished, so that a signal ends it at once."""

    def __init__(self, listen: Listener, stopping: Callable[[], bool]) -> None:
        self._listen = listen
        self._stopping = stopping
        self._waiting = False

    def listen(self, event: Event) -> None:
        """Pass an event on.

        Raises:
            StoppedError: a run waits for its board anew, and the user has asked to stop: nothing is under way.
        """
        self._waiting = isinstance(event, Waiting)
        self._listen(event)
        if self._waiting and self._stopping():
            raise StoppedError(self._words())

    def ended_at_once(self) -> AbstractContextManager[None]:
        """Return the block in which the run is being made ready."""
        return ended_at_once(self._words)

    def _words(self) -> str:
        return "stopped while waiting for the board" if self._waiting else "stopped before anything was measured"
