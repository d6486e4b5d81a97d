"""The two ends of a pipe that carries messages: complete lines in, whole messages out, and nobody else's prints."""

import os
from typing import Any, Callable, Dict, Optional

from device_agents import protocol
from device_agents.errors import AgentError

_CHUNK_BYTES = 1 << 16
_QUOTED_BYTES = 200

Emit = Callable[[Dict[str, Any]], None]
"""Sends one message."""


class CallerGoneError(Exception):
    """The caller closed the line: nobody waits for an answer any more."""


def take_stdout() -> int:
    """Return a private copy of fd 1 and point fd 1 at stderr, so that no library can print between the messages.

    The copy is not inherited by child processes.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    return private


def send(fd: int, message: Dict[str, Any]) -> None:
    """Write ``message`` whole; raise BrokenPipeError when nobody reads any more.

    Raises:
        AgentError: BAD_REQUEST, the message is longer than a line may be.
    """
    line = protocol.encode(message)
    if len(line) > protocol.MAX_LINE_BYTES:
        raise AgentError(
            protocol.BAD_REQUEST,
            "an answer of %d bytes, more than the %d that a line may have: ask for fewer inferences or images"
            % (len(line), protocol.MAX_LINE_BYTES),
        )
    view = memoryview(line)
    while view:
        view = view[os.write(fd, view) :]


class Lines:
    """Complete lines from a file descriptor, read without blocking longer than one ``fill``.

    A line over the protocol's limit comes out cut to its first bytes, which are no message; the rest is dropped.
    What stands after the last newline when the other end closes was cut off on its way, and is dropped too.
    """

    def __init__(self, fd: int, limit: int = protocol.MAX_LINE_BYTES) -> None:
        self.fd = fd
        self.open = True
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._skipping = False

    def fill(self) -> None:
        """Read what is there, or wait for it; ``open`` turns False at the end."""
        data = os.read(self.fd, _CHUNK_BYTES)
        self.open = bool(data)
        self._buffer += data

    def pop(self) -> Optional[bytes]:
        """Return the next complete line without its newline, or None when there is none yet."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return self._shorten() if self._searched > self._limit else None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if self._skipping:
            self._skipping = False
            return self.pop()
        return line

    def _shorten(self) -> Optional[bytes]:
        """Drop an endless line's beginning; return its first bytes the first time."""
        head = None if self._skipping else bytes(self._buffer[:_QUOTED_BYTES])
        self._skipping = True
        self._searched = 0
        del self._buffer[:]
        return head
