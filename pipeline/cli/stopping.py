"""Being asked to stop: Ctrl-C, a termination signal or a hung-up terminal once asks, twice stops at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.cli.console import err
from pipeline.errors import StoppedError
from pipeline.events import Event, Listener, Waiting

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = 130


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
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
            _to_nowhere(terminals)
        if asked:
            err.show_cursor()
            os._exit(STOPPED)
        asked = True
        err.print("finishing what is under way, then stopping; Ctrl-C again stops at once")

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def stopped_while_waiting(listen: Listener, stopping: Callable[[], bool]) -> Listener:
    """Return a listener that ends a run which waits for a board: nothing is under way that could be finished.

    It raises StoppedError at the first word of waiting after the user asked to stop.
    """

    def heard(event: Event) -> None:
        listen(event)
        if isinstance(event, Waiting) and stopping():
            raise StoppedError("stopped while waiting for the board")

    return heard


def _to_nowhere(descriptors: Iterable[int]) -> None:
    """Send what would go to a terminal that is gone to nowhere: writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
