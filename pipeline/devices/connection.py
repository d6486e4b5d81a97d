"""Connection to one agent: one request at a time, repeated on a new session when the link breaks.

A request says all that the agent needs and changes nothing but its cache of files, so a request that was cut off is
simply asked again in a new session. What makes a session ours, such as holding the board, is the ``handshake``: it
begins every new session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from device_agents import protocol
from pipeline.answers import Answer, Held, Progress, SizeLimits, Waiting
from pipeline.devices import agent_plugins, messages
from pipeline.devices.messages import Failed
from pipeline.devices.recording import Failure, Result
from pipeline.devices.sessions import Session, Zipapp, open_session
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.errors import (
    AgentError,
    BoardHeldError,
    DiskFullError,
    ExchangeTimeoutError,
    MeasureError,
    PipelineError,
    SessionLostError,
    UnreachableError,
)
from pipeline.records import Device

_log = logging.getLogger(__name__)

OnEvent = Callable[[Mapping[str, Any]], None]
File = tuple[str, bytes]
"""Name in the agent's folder, and content."""
Record = Callable[[str, Mapping[str, Any], Result, Sequence[File]], None]
"""Takes verb, arguments, result and files of every request that was answered, if only by a failure of its model."""
Handshake = tuple[float, Mapping[str, Any]]
"""Deadline in seconds and arguments of the ``hold`` that begins every session."""
Opening = Callable[[Device, Zipapp], Session]
"""Starts the agent on a device."""
A = TypeVar("A", bound=Answer)

LOCAL_RETRIES = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_MOST_LINES, _LINES_A_SECOND = 1000, 10
_MOST_LINE_BYTES = 1 << 10
"""Of one exchange, besides the reply: what a login shell prints, and an event a second or so."""
_RETRIED = (UnreachableError, SessionLostError, ExchangeTimeoutError)


@dataclass(frozen=True, slots=True)
class Request(Generic[A]):
    """One request, and what its answer has to be."""

    kind: type[A]
    deadline_s: float
    arguments: Mapping[str, Any]
    known: Mapping[str, Any]
    """The arguments, and what else bounds the answer."""


class Wire:
    """The way to one device's agent. Reconnects by itself; one request at a time, from any one thread."""

    def __init__(
        self,
        device: Device,
        on_event: OnEvent | None = None,
        record: Record | None = None,
        opening: Opening = open_session,
    ) -> None:
        self.zipapp = zipapp(agent_plugins.packed(device.plugins))
        self.bytes_sent = 0
        """Of files, over the life of this object; the agent itself does not count."""
        self.handshake: Handshake | None = None
        self.handshake_answer = Held()
        """What the agent last answered to the handshake."""
        self._device = device
        self._on_event = on_event
        self._record = record
        self._open = opening
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._number = 0
        self._retries = device.ssh.retries if device.ssh else LOCAL_RETRIES

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self._session is not None

    def request(
        self,
        kind: type[A],
        deadline_s: float,
        files: Sequence[File] = (),
        known: Mapping[str, Any] | None = None,
        **arguments: object,
    ) -> A:
        """Send files and a request, and return the answer; once more in a new session if only the link is to blame.

        Args:
            kind: of the answer, and so of the request; it is validated against the arguments.
            known: what bounds the answer besides them.

        Raises:
            MeasureError: the request's own model failed on the device, or the answer about it cannot be true.
            DeviceError: the device, or the way to it, failed more often than it is retried.
        """
        request = Request(kind, deadline_s, arguments, {**arguments, **(known or {})})
        with self._lock:
            for attempt in range(self._retries + 1):
                try:
                    return self._once(request, files)
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
        """End the agent; another request would start a new one."""
        with self._lock:
            if self._session:
                self._session.close()
            self._session = None

    def _once(self, request: Request[A], files: Sequence[File]) -> A:
        for last in (False, True):
            session = self._connected()
            for name, content in files:
                self.bytes_sent += session.put(content, name)
            reply = self._exchange(session, request)
            if not isinstance(reply, Failed):
                answer = self._validated(reply, request)
                self._record_answer(request, reply, files)
                return answer
            if reply.kind in protocol.CANDIDATE_KINDS:
                self._record_answer(request, Failure(reply.kind, reply.message), files)
            lost = reply.kind == protocol.HELD and self.handshake is not None  # by a silence; others took the board
            if last or not (lost or reply.kind == protocol.CORRUPT):
                raise self._error(reply, request)
            _log.warning("%s: %s", self._device.name, reply.message)
            if lost:
                self._shake_hands(session)
        raise AssertionError("unreachable")

    def _record_answer(self, request: Request[A], result: Result, files: Sequence[File]) -> None:
        if self._record:
            try:
                self._record(request.kind.verb, request.arguments, result, files)
            except ValueError as e:  # in what the schema left out
                raise self._implausible(f"the agent's answer cannot be recorded: {e}", request) from e

    def _connected(self) -> Session:
        if self._session is None:
            self._session = self._open(self._device, self.zipapp)
            self._shake_hands(self._session)
        return self._session

    def _shake_hands(self, session: Session) -> None:
        if self.handshake is None:
            return
        deadline_s, arguments = self.handshake
        request = Request(Held, deadline_s, arguments, arguments)
        reply = self._exchange(session, request)
        if isinstance(reply, Failed):
            raise self._error(reply, request)
        self.handshake_answer = self._validated(reply, request)

    def _exchange(self, session: Session, request: Request[A]) -> Any:
        """Send one request; return what its reply holds, not validated yet, or why there is no result."""
        self._number += 1
        limits = request.kind.size_limits(request.known)
        lines = _MOST_LINES + int(_LINES_A_SECOND * request.deadline_s)
        heard = _ReplyReader(self._device.name, self._number, limits, lines, self._on_event)
        line = protocol.encode({"id": self._number, "verb": request.kind.verb, **request.arguments})
        try:
            session.exchange(line, request.deadline_s, heard.take, limits.size + lines * _MOST_LINE_BYTES)
        except messages.OtherVersionError as e:
            raise AgentError(f"{self._device.name}: the agent's answer makes no sense: {e}") from e
        except messages.NoMessageError as e:
            raise self._implausible(f"the agent's answer makes no sense: {e}", request) from e
        return heard.reply

    def _validated(self, result: object, request: Request[A]) -> A:
        try:
            return request.kind.of(result, request.known)
        except ValueError as e:
            raise self._implausible(str(e), request) from e

    def _implausible(self, why: str, request: Request[A]) -> PipelineError:
        """Return the error for an answer that cannot be true: of one candidate, where it is about one."""
        kind = MeasureError if request.kind.concerns_candidate else AgentError
        return kind(f"{self._device.name}: {why}")

    def _error(self, failed: Failed, request: Request[A]) -> PipelineError:
        text = f"{self._device.name}: {failed.message}"
        if failed.kind in protocol.CANDIDATE_KINDS and request.kind.concerns_candidate:
            return MeasureError(f"{text} ({failed.kind})")
        own = {protocol.DISK_FULL: DiskFullError, protocol.HELD: BoardHeldError}
        return own[failed.kind](text) if failed.kind in own else AgentError(f"{text} ({failed.kind})")


class _ReplyReader:
    """The lines of one exchange, up to its reply."""

    def __init__(self, device: str, number: int, limits: SizeLimits, lines: int, on_event: OnEvent | None) -> None:
        self.reply: object = None
        """The result, or what failed."""
        self._device = device
        self._number = number
        self._limits = limits
        self._on_event = on_event
        self._lines_left = lines
        self._bytes_left = lines * _MOST_LINE_BYTES

    def take(self, line: bytes) -> bool:
        """Take in a line; return whether it is the reply.

        Raises:
            NoMessageError: it is no message of ours.
            AgentError: there is more beside the reply than any agent has to say.
        """
        message = messages.decoded(line, self._limits) if line.startswith(b"{") else None
        if isinstance(message, messages.Success | messages.Failure) and message.id in (self._number, None):
            self.reply = message.result if isinstance(message, messages.Success) else message.error
            return True
        self._note(line)
        if isinstance(message, Progress | Waiting) and self._on_event:
            self._on_event(message.model_dump())
        return False

    def _note(self, line: bytes) -> None:
        """Count what is not the reply: events, what a login shell prints, replies that nobody waits for."""
        _log.debug("%s said: %r", self._device, line[:200])
        self._lines_left -= 1
        self._bytes_left -= len(line)
        if self._lines_left < 0 or self._bytes_left < 0:
            raise AgentError(f"{self._device}: the login shell or the agent prints without end: {line[:80]!r}")
