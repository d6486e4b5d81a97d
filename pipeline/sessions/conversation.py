"""One line there, lines back, under one deadline: what both kinds of session do with their byte streams."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.errors import AgentError, ExchangeTimeoutError, SessionLostError
from pipeline.sessions import OnLine

MAX_LINE_BYTES = 64 * 1024 * 1024
"""No answer is longer; a stream without newlines is no agent."""


class Conversation:
    """Splits what ``receive`` gives into lines.

    ``receive`` waits at most so many seconds, returns ``b""`` at the end of the stream and raises TimeoutError when
    nothing came; ``last_words`` tells what the other end said before it ended.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[bytes], None],
        receive: Callable[[float], bytes],
        last_words: Callable[[], str],
    ) -> None:
        self._name = name
        self._send = send
        self._receive = receive
        self._last_words = last_words
        self._buffer = bytearray()
        self._searched = 0

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine) -> None:
        """See ``Session.exchange``."""
        until = time.monotonic() + deadline_s
        try:
            self._send(line)
            while not on_line(self._next(until)):
                pass
        except TimeoutError as e:
            raise ExchangeTimeoutError(f"{self._name}: no answer from the agent within {deadline_s:g} s") from e
        except (OSError, EOFError) as e:
            raise self._lost(str(e) or type(e).__name__) from e

    def _next(self, until: float) -> bytes:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_LINE_BYTES:
                raise AgentError(f"{self._name}: the agent sent {self._searched} bytes without a newline")
            chunk = self._receive(max(0.0, until - time.monotonic()))
            if not chunk:
                raise self._lost("the agent ended")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _lost(self, why: str) -> SessionLostError:
        words = self._last_words()
        return SessionLostError(f"{self._name}: the session was lost: {why}" + (f"; it said: {words}" if words else ""))


def last_lines(stderr: bytes, count: int = 3) -> str:
    """Return the last lines of what a process wrote to stderr, as one line.

    >>> last_lines(b"a" + bytes([10]) + b"b" + bytes([10]))
    'a | b'
    """
    return " | ".join(stderr.decode("utf-8", "replace").strip().splitlines()[-count:])
