"""One deadline and one bound for whatever is done over a connection, however the board drips or floods."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import paramiko

from pipeline.errors import AgentError, ExchangeTimeoutError
from pipeline.sessions.link import Link

MOST_OUTPUT_BYTES = 1 << 24
"""Of one short command, and as many of errors; a login shell that greets at length prints some 10 kB."""
KEPT_BYTES = 1 << 20
"""Of either: the end, which is ours."""
_CHUNK_BYTES = 1 << 16
_LOOK_S = 0.1


@contextlib.contextmanager
def within(link: Link, seconds: float, name: str, doing: str) -> Iterator[None]:
    """End the connection when the block takes longer: most of paramiko's waits know no end, or begin anew at each byte.

    Args:
        link: what is closed.
        seconds: for all of the block.
        name: the device's.
        doing: what the block does, for the message.

    Raises:
        ExchangeTimeoutError: it took longer.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        link.close()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as e:
        if late.is_set():
            raise _too_long(name, doing, seconds) from e
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise _too_long(name, doing, seconds)


def output_of(channel: paramiko.Channel, name: str, most_bytes: int = MOST_OUTPUT_BYTES) -> tuple[bytes, bytes]:
    """Return the ends of what a command prints and of its errors, where its own words stand.

    Both are read in turns, since a full window of one stops both.

    Raises:
        AgentError: it prints more than ``most_bytes``.
    """
    streams = (_Stream(name, most_bytes), _Stream(name, most_bytes))
    out, err = streams
    channel.settimeout(_LOOK_S)
    while True:
        chunk: bytes | None = None
        with contextlib.suppress(TimeoutError):
            chunk = channel.recv(_CHUNK_BYTES)
        out.add(chunk or b"")
        while channel.recv_stderr_ready():
            err.add(channel.recv_stderr(_CHUNK_BYTES))
        if chunk == b"":
            break
    while more := _rest_of_errors(channel):
        err.add(more)
    return bytes(out.end), bytes(err.end)


class _Stream:
    """The end of what comes, and how much it was."""

    def __init__(self, name: str, most_bytes: int) -> None:
        self.end = bytearray()
        self._name, self._most_bytes, self._seen_bytes = name, most_bytes, 0

    def add(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)
        if self._seen_bytes > self._most_bytes:
            raise AgentError(
                f"{self._name}: the board prints without end, {self._most_bytes} bytes and more, before the agent "
                f"starts: {bytes(self.end[:80])!r}; see what its login shell runs (~/.bashrc, ~/.profile, /etc/profile)"
            )
        self.end += chunk
        del self.end[:-KEPT_BYTES]


def _rest_of_errors(channel: paramiko.Channel) -> bytes:
    """Return what stderr still holds; a channel that is at its end gets no more."""
    with contextlib.suppress(TimeoutError):
        return channel.recv_stderr(_CHUNK_BYTES)
    return b""


def _too_long(name: str, doing: str, seconds: float) -> ExchangeTimeoutError:
    return ExchangeTimeoutError(
        f"{name}: {doing} took more than {seconds:g} s; is the board overloaded, or its login shell waiting for input?"
    )


def left_s(until: float) -> float:
    """Return the seconds until a moment of ``time.monotonic``.

    Raises:
        TimeoutError: it has passed.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
