"""One agent, asked one request at a time, and asked again when the way to it breaks.

A request says all that the agent needs and changes nothing but its cache of files, so a request that was cut off is
simply asked again in a new session. What makes a session ours, such as holding the board, is the ``greeting``: it
begins every new session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from device_agents import protocol
from pipeline.errors import (
    AgentError,
    BoardHeldError,
    DiskFullError,
    ExchangeTimeoutError,
    MeasureError,
    SessionLostError,
    UnreachableError,
)
from pipeline.recording import Failure, Result
from pipeline.records import Device
from pipeline.sessions import Session, open_session
from pipeline.sessions.zipapp import zipapp

_log = logging.getLogger(__name__)

OnEvent = Callable[[Mapping[str, Any]], None]
File = tuple[str, bytes]
"""Name in the agent's folder, and content."""
Record = Callable[[str, Mapping[str, Any], Result, Sequence[File]], None]
"""Takes verb, arguments, result and files of every request that was answered, if only by a failure of its model."""
Greeting = tuple[str, float, Mapping[str, object]]
"""Verb, deadline in seconds, arguments."""

LOCAL_RETRIES = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_MOST_NOISE_LINES = 1000
_RETRIED = (UnreachableError, SessionLostError, ExchangeTimeoutError)


class Wire:
    """The way to one device's agent. Reconnects by itself; one request at a time, from any one thread."""

    def __init__(self, device: Device, on_event: OnEvent | None = None, record: Record | None = None) -> None:
        self.zipapp = zipapp()
        self.bytes_sent = 0
        """Of files, over the life of this object; the agent itself does not count."""
        self.greeting: Greeting | None = None
        self.greeted: dict[str, Any] = {}
        """What the agent last answered to the greeting."""
        self._device = device
        self._on_event = on_event
        self._record = record
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._number = 0
        self._retries = device.ssh.retries if device.ssh else LOCAL_RETRIES

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self._session is not None

    def ask(self, verb: str, deadline_s: float, files: Sequence[File] = (), **arguments: object) -> dict[str, Any]:
        """Bring the files over, ask, and return the result; once more in a new session if only the way is to blame.

        Raises:
            MeasureError: the request's own model failed on the device.
            DeviceError: the device, or the way to it, failed more often than it is retried.
        """
        with self._lock:
            for attempt in range(self._retries + 1):
                try:
                    return self._once(verb, deadline_s, files, arguments)
                except _RETRIED as e:
                    self.close()
                    if attempt == self._retries:
                        raise
                    pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
                    _log.warning("%s; trying again in %g s (%d of %d)", e, pause_s, attempt + 1, self._retries)
                    time.sleep(pause_s)
                except BaseException:
                    self.close()  # what the session holds now is unknown
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the agent; asking again would start a new one."""
        with self._lock:
            if self._session:
                self._session.close()
            self._session = None

    def _once(
        self, verb: str, deadline_s: float, files: Sequence[File], arguments: Mapping[str, object]
    ) -> dict[str, Any]:
        for last in (False, True):
            session = self._connected()
            for name, content in files:
                self.bytes_sent += session.put(content, name)
            reply = self._exchange(session, verb, deadline_s, arguments)
            if reply["ok"]:
                result = dict(reply["result"])
                self._heard(verb, arguments, result, files)
                return result
            error = reply["error"]
            if error["kind"] in protocol.CANDIDATE_KINDS:
                self._heard(verb, arguments, Failure(error["kind"], error["message"]), files)
            lost = error["kind"] == protocol.HELD and self.greeting is not None  # by a silence; others took the board
            if last or not (lost or error["kind"] == protocol.CORRUPT):
                raise self._error(error["kind"], error["message"])
            _log.warning("%s: %s", self._device.name, error["message"])
            if lost:
                self._greet(session)
        raise AssertionError("unreachable")

    def _heard(self, verb: str, arguments: Mapping[str, object], result: Result, files: Sequence[File]) -> None:
        if self._record:
            self._record(verb, arguments, result, files)

    def _connected(self) -> Session:
        if self._session is None:
            self._session = open_session(self._device, self.zipapp)
            self._greet(self._session)
        return self._session

    def _greet(self, session: Session) -> None:
        if self.greeting is None:
            return
        verb, deadline_s, arguments = self.greeting
        reply = self._exchange(session, verb, deadline_s, arguments)
        if not reply["ok"]:
            raise self._error(reply["error"]["kind"], reply["error"]["message"])
        self.greeted = dict(reply["result"])

    def _exchange(
        self, session: Session, verb: str, deadline_s: float, arguments: Mapping[str, object]
    ) -> dict[str, Any]:
        """Send one request; return its reply, well-formed."""
        self._number += 1
        replies: list[dict[str, Any]] = []
        noise = 0

        def on_line(line: bytes) -> bool:
            nonlocal noise
            if not line.startswith(b"{"):  # a login shell that prints
                noise += 1
                _log.debug("%s said: %r", self._device.name, line[:200])
                if noise > _MOST_NOISE_LINES:
                    raise AgentError(f"{self._device.name}: the login shell prints without end: {line[:80]!r}")
                return False
            message = self._decoded(line)
            if "event" in message:
                if self._on_event:
                    self._on_event(message)
                return False
            replies.append(message)
            return message.get("id") in (self._number, None)

        request = protocol.encode({"id": self._number, "verb": verb, **arguments})
        session.exchange(request, deadline_s, on_line)
        return replies[-1]

    def _decoded(self, line: bytes) -> dict[str, Any]:
        try:
            message: dict[str, Any] = protocol.decode(line)
        except protocol.ProtocolError as e:
            raise AgentError(f"{self._device.name}: the agent's answer makes no sense: {e}") from e
        if not ("event" in message or _is_reply(message)):
            raise AgentError(f"{self._device.name}: the agent's answer makes no sense: {line[:120]!r}")
        return message

    def _error(self, kind: str, message: str) -> Exception:
        text = f"{self._device.name}: {message}"
        if kind in protocol.CANDIDATE_KINDS:
            return MeasureError(f"{text} ({kind})")
        own = {protocol.DISK_FULL: DiskFullError, protocol.HELD: BoardHeldError}
        return own[kind](text) if kind in own else AgentError(f"{text} ({kind})")


def _is_reply(message: Mapping[str, Any]) -> bool:
    if message.get("ok") is True:
        return isinstance(message.get("result"), dict)
    error = message.get("error")
    return message.get("ok") is False and isinstance(error, dict) and {"kind", "message"} <= error.keys()
