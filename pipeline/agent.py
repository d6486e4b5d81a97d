"""The client of the wire: opens an agent on a device, asks it, and goes on when the way to it breaks.

A request says all that the agent needs and changes nothing but its cache of files, so a request that was cut off is
simply asked again in a new session.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from device_agents import protocol
from pipeline.errors import (
    AgentError,
    DiskFullError,
    ExchangeTimeoutError,
    MeasureError,
    SessionLostError,
    UnreachableError,
)
from pipeline.limits import CHANNEL_STEPS, limits_of
from pipeline.measurement import measurement
from pipeline.records import Device, DeviceFacts, Measurement, MeasureSettings, OnnxLimits
from pipeline.sessions import Session, open_session
from pipeline.sessions.zipapp import zipapp

__all__ = ["Agent", "Telemetry", "open_agent"]

log = logging.getLogger(__name__)

Kind = Literal["onnx", "skeleton"]
Model = tuple[bytes, Kind]
OnEvent = Callable[[Mapping[str, Any]], None]

QUICK_S = 60.0
"""Deadline of hello and telemetry, and what a request gets on top of its own time limit on the board."""

LOCAL_RETRIES = 2

AUTO_POWER_LEAST: Mapping[str, float] = {"block_s": 1.0, "min_s": 5.0, "max_s": 15.0}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_MOST_NOISE_LINES = 1000

_RETRIED = (UnreachableError, SessionLostError, ExchangeTimeoutError)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """How the board feels right now; None where it does not say."""

    temperature_c: float | None = None
    clock_mhz: float | None = None
    load: float | None = None
    memory_free_mb: float | None = None
    disk_free_mb: float | None = None
    throttled: str | None = None


def open_agent(device: Device, *, on_event: OnEvent | None = None) -> Agent:
    """Start the agent on ``device`` and hear what board it is; ``on_event`` hears of progress.

    Raises:
        DeviceError: one of its kinds, each saying what to do.
    """
    return Agent(device, on_event)


class Agent:
    """An agent on one device. Reconnects by itself; one request at a time, from any one thread."""

    def __init__(self, device: Device, on_event: OnEvent | None = None) -> None:
        self.device = device
        self.bytes_sent = 0
        """Of files, over the life of this object; the agent itself does not count."""
        self._on_event = on_event
        self._zipapp = zipapp()
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._number = 0
        self._retries = device.ssh.retries if device.ssh else LOCAL_RETRIES
        self.facts = self._facts(self._ask("hello", QUICK_S, power=self._power_of_hello()))

    def __enter__(self) -> Agent:
        """Return the agent itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    @property
    def limits(self) -> OnnxLimits:
        """The newest ONNX that may be sent: what the inventory pins, else what the device's runtime loads."""
        found = limits_of(self.facts.runtimes.get("onnxruntime", ""))
        return OnnxLimits(self.device.onnx_max_opset or found.opset, self.device.onnx_max_ir or found.ir)

    @property
    def channel_step(self) -> int:
        """Kept channels are rounded up to a multiple of this."""
        return self.device.channel_step or CHANNEL_STEPS.get(self.facts.simd, 1)

    @property
    def power_backend(self) -> str:
        """The sensor in use: the one named, or under ``auto`` the first that can be read, else ``null``."""
        if self.device.power.backend != "auto":
            return self.device.power.backend
        usable = sorted(n for n, state in self.facts.sensors.items() if state == "ok" and n != "null")
        return usable[0] if usable else "null"

    def settings_for(self, settings: MeasureSettings) -> MeasureSettings:
        """Return ``settings`` with blocks long enough for a sensor that ``auto`` found.

        RAPL gives 20 values a second; shorter blocks would mix the candidate's power with the reference's. Where a
        sensor is named, the inventory has seen to this already.
        """
        if self.device.power.backend != "auto" or self.power_backend == "null":
            return settings
        longer = {name: max(least, getattr(settings, name)) for name, least in AUTO_POWER_LEAST.items()}
        return dataclasses.replace(settings, **longer)

    def measure(
        self,
        model: bytes,
        kind: Kind = "onnx",
        *,
        reference: Model | None = None,
        settings: MeasureSettings | None = None,
    ) -> Measurement:
        """Measure ``model``, with ``reference`` taking turns beside it.

        Raises:
            MeasureError: this one model failed on the device; the device is fine.
            DeviceError: the device, or the way to it, failed more often than it is retried.
        """
        chosen = self.settings_for(settings or self.device.measure)
        start, sent = time.monotonic(), self.bytes_sent
        candidate, base = self._named(model, kind), self._named(*reference) if reference else None
        raw = self._ask(
            "measure",
            chosen.timeout_s + QUICK_S,
            files=[candidate, base],
            candidate=candidate[0],
            reference=base[0] if base else None,
            runtime=self.device.runtime,
            power={"backend": self.power_backend, "options": dict(self.device.power.options)},
            **dataclasses.asdict(chosen),
        )
        seconds = time.monotonic() - start
        try:
            return measurement(raw, ci_rel=chosen.ci_rel, bytes_sent=self.bytes_sent - sent, seconds=seconds)
        except ValueError as e:
            raise MeasureError(f"{self.device.name}: {e}") from e

    def verify(self, model: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the device's own outputs for ``inputs``, one row an image; raises like ``measure``."""
        candidate, images = self._named(model, "onnx"), self._named(_npy(inputs), "npy")
        raw = self._ask(
            "verify",
            self.device.measure.timeout_s + QUICK_S,
            files=[candidate, images],
            candidate=candidate[0],
            inputs=images[0],
            runtime=self.device.runtime,
            threads=self.device.measure.threads,
            timeout_s=self.device.measure.timeout_s,
        )
        try:
            outputs = np.frombuffer(base64.b64decode(raw["outputs"]), "<f4").reshape(raw["shape"])
        except (KeyError, TypeError, ValueError) as e:
            raise AgentError(f"{self.device.name}: the reply to verify makes no sense: {e!r}") from e
        return outputs.astype(np.float32)

    def telemetry(self) -> Telemetry:
        """Return how the board feels right now."""
        raw = self._ask("telemetry", QUICK_S)
        return Telemetry(**{f.name: raw.get(f.name) for f in dataclasses.fields(Telemetry)})

    def close(self) -> None:
        """End the agent; asking again would start a new one."""
        with self._lock:
            if self._session:
                self._session.close()
            self._session = None

    def _named(self, content: bytes, extension: str) -> tuple[str, bytes]:
        """Return the file's name and content; refuse one larger than the device accepts."""
        if len(content) > self.device.max_upload_mb * 1e6:
            raise MeasureError(
                f"{self.device.name}: the file has {len(content) / 1e6:.1f} MB, the device accepts"
                f" {self.device.max_upload_mb:g} MB; raise max_upload_mb in the inventory"
            )
        return f"{hashlib.sha256(content).hexdigest()}.{extension}", content

    def _ask(
        self, verb: str, deadline_s: float, files: list[tuple[str, bytes] | None] | None = None, **arguments: object
    ) -> dict[str, Any]:
        """Ask once, and again in a new session for as long as only the way is to blame."""
        wanted = [f for f in files or [] if f]
        with self._lock:
            for attempt in range(self._retries + 1):
                try:
                    return self._once(verb, deadline_s, wanted, arguments)
                except _RETRIED as e:
                    self.close()
                    if attempt == self._retries:
                        raise
                    pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
                    log.warning("%s; trying again in %g s (%d of %d)", e, pause_s, attempt + 1, self._retries)
                    time.sleep(pause_s)
                except BaseException:
                    self.close()  # what the session holds now is unknown
                    raise
        raise AssertionError("unreachable")

    def _once(
        self, verb: str, deadline_s: float, files: list[tuple[str, bytes]], arguments: Mapping[str, object]
    ) -> dict[str, Any]:
        for last in (False, True):
            session = self._connected()
            for name, content in files:
                self.bytes_sent += session.put(content, name)
            reply = self._exchange(session, verb, deadline_s, arguments)
            if reply["ok"]:
                return dict(reply["result"])
            error = reply["error"]
            if error["kind"] != protocol.CORRUPT or last:
                raise self._error(error["kind"], error["message"])
            log.warning("%s: %s", self.device.name, error["message"])
        raise AssertionError("unreachable")

    def _connected(self) -> Session:
        if self._session is None:
            self._session = open_session(self.device, self._zipapp)
        return self._session

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
                log.debug("%s said: %r", self.device.name, line[:200])
                if noise > _MOST_NOISE_LINES:
                    raise AgentError(f"{self.device.name}: the login shell prints without end: {line[:80]!r}")
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
            raise AgentError(f"{self.device.name}: the agent's answer makes no sense: {e}") from e
        if not ("event" in message or _is_reply(message)):
            raise AgentError(f"{self.device.name}: the agent's answer makes no sense: {line[:120]!r}")
        return message

    def _error(self, kind: str, message: str) -> Exception:
        text = f"{self.device.name}: {message}"
        if kind in protocol.CANDIDATE_KINDS:
            return MeasureError(f"{text} ({kind})")
        return DiskFullError(text) if kind == protocol.DISK_FULL else AgentError(f"{text} ({kind})")

    def _power_of_hello(self) -> dict[str, Any] | None:
        power = self.device.power
        return None if power.backend == "auto" else {"backend": power.backend, "options": dict(power.options)}

    def _facts(self, raw: Mapping[str, Any]) -> DeviceFacts:
        known = {f.name: raw[f.name] for f in dataclasses.fields(DeviceFacts) if f.name in raw}
        try:
            facts = DeviceFacts(**dict(known, groups=tuple(known.get("groups") or ())))
        except TypeError as e:
            self.close()
            raise AgentError(f"{self.device.name}: the agent's hello is incomplete: {e}") from e
        if facts.agent_sha256 != self._zipapp.sha256:
            self.close()
            raise AgentError(f"{self.device.name}: another agent answered: {facts.agent_sha256[:12] or 'not a zipapp'}")
        return facts


def _is_reply(message: Mapping[str, Any]) -> bool:
    if message.get("ok") is True:
        return isinstance(message.get("result"), dict)
    error = message.get("error")
    return message.get("ok") is False and isinstance(error, dict) and {"kind", "message"} <= error.keys()


def _npy(inputs: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(inputs, dtype="<f4"), allow_pickle=False)
    return file.getvalue()
