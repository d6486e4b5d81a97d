"""One deadline and one byte limit for an operation on a connection."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import paramiko

from pipeline.devices.sessions.ssh_connection import Link
from pipeline.errors import AgentError, ExchangeTimeoutError

MOST_OUTPUT_BYTES = 1 << 20
"""Of one short command, and as many of errors; a login shell that greets at length prints some 10 kB."""
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


_RC_ERRORS = 8
"""Times as many bytes of errors: of those that a login shell's own files print, some arrive behind its first answer."""


def output_of(channel: paramiko.Channel, name: str, most_bytes: int = MOST_OUTPUT_BYTES) -> tuple[bytes, bytes]:
    """Return all that a command prints, and all its errors; reads both at once, since a full window stops both.

    Raises:
        AgentError: it prints more.
    """
    out, err = bytearray(), bytearray()
    channel.settimeout(_LOOK_S)
    while True:
        chunk: bytes | None = None
        with contextlib.suppress(TimeoutError):
            chunk = channel.recv(_CHUNK_BYTES)
        out += chunk or b""
        _require_short(out, err, name, most_bytes)
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(_CHUNK_BYTES)
            _require_short(out, err, name, most_bytes)
        if chunk == b"":
            break
    while more := _rest_of_errors(channel):
        err += more
        _require_short(out, err, name, most_bytes)
    return bytes(out), bytes(err)


def _rest_of_errors(channel: paramiko.Channel) -> bytes:
    """Return what stderr still holds; a channel that is at its end gets no more."""
    with contextlib.suppress(TimeoutError):
        return channel.recv_stderr(_CHUNK_BYTES)
    return b""


def _require_short(out: bytearray, err: bytearray, name: str, most_bytes: int) -> None:
    if len(out) > most_bytes or len(err) > _RC_ERRORS * most_bytes:
        said = bytes(max(out, err, key=len)[:80])
        raise AgentError(
            f"{name}: the board prints without end, {most_bytes} bytes and more, before the agent starts: {said!r}; "
            "see what its login shell runs (~/.bashrc, ~/.profile, /etc/profile)"
        )


def _too_long(name: str, doing: str, seconds: float) -> ExchangeTimeoutError:
    return ExchangeTimeoutError(
        f"{name}: {doing} took more than {seconds:.3g} s; is the board overloaded, or does its login shell wait for "
        "input?"
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
