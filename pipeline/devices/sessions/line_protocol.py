"""Line protocol: one request line, answer lines until the reply, under one deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.devices.sessions import MAX_LINE_BYTES, OnLine
from pipeline.errors import AgentError, ExchangeTimeoutError, SessionLostError
from pipeline.printable import printable

_LAST_BYTES = 1 << 16


class Conversation:
    """Splits what ``receive`` gives into lines.

    ``send`` and ``receive`` take until when, in seconds of ``time.monotonic``, and raise TimeoutError when nothing
    moved by then; ``receive`` returns ``b""`` at the end of the stream. ``last_words`` tells what the other end said
    before it ended.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[bytes, float], None],
        receive: Callable[[float], bytes],
        last_words: Callable[[], str],
    ) -> None:
        self._name = name
        self._send = send
        self._receive = receive
        self._last_words = last_words
        self._buffer = bytearray()
        self._searched = 0

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = MAX_LINE_BYTES) -> None:
        """See ``Session.exchange``."""
        until = time.monotonic() + deadline_s
        left = max_bytes
        try:
            self._send(line, until)
            while True:
                received = self._next(until, left)
                left -= len(received) + 1
                if on_line(received):
                    return
        except TimeoutError as e:
            raise ExchangeTimeoutError(f"{self._name}: no answer from the agent within {deadline_s:g} s") from e
        except (OSError, EOFError) as e:
            raise self._lost(str(e) or type(e).__name__) from e

    def _next(self, until: float, most_bytes: int) -> bytes:
        """Return the next line; the deadline is looked at for each line and each chunk, however many there are."""
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > most_bytes:
                raise AgentError(
                    f"{self._name}: the agent sent {self._searched} bytes without a newline, more than its answer has"
                )
            self._require_time(until)
            chunk = self._receive(until)
            if not chunk:
                raise self._lost("the agent ended")
            self._buffer += chunk
        self._require_time(until)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if len(line) > most_bytes:
            raise AgentError(f"{self._name}: the agent sent more bytes than its answer has: {line[:80]!r}")
        return line

    def _require_time(self, until: float) -> None:
        if time.monotonic() >= until:
            raise TimeoutError

    def _lost(self, why: str) -> SessionLostError:
        words = self._last_words()
        return SessionLostError(f"{self._name}: the session was lost: {why}" + (f"; it said: {words}" if words else ""))


def last_lines(stderr: bytes, count: int = 3) -> str:
    """Return the last lines of what a process wrote to stderr, as one line that can be shown.

    >>> last_lines(b"a" + bytes([10]) + b"b" + bytes([10]))
    'a | b'
    """
    lines = stderr[-_LAST_BYTES:].decode("utf-8", "replace").strip().splitlines()
    return printable(" | ".join(lines[-count:]))
