"""Agent client: the requests that an agent answers, as methods that return records."""

from __future__ import annotations

import dataclasses
import functools
import getpass
import hashlib
import io
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import answers
from pipeline.devices import agent_plugins
from pipeline.devices.compatibility import CHANNEL_STEPS, onnx_support_of
from pipeline.devices.connection import File, OnEvent, Opening, Record, Wire
from pipeline.devices.recording import as_recorded, on_this_machine, read_header
from pipeline.devices.runtime_choice import RuntimeChoice, choose_runtime
from pipeline.devices.sessions import open_session
from pipeline.devices.stored_calibrations import Known, known_calibration
from pipeline.errors import AgentError, MeasureError
from pipeline.measurement.calibration import Conditions
from pipeline.measurement.from_samples import measurement
from pipeline.records import Device, DeviceFacts, Measurement, MeasureSettings, OnnxSupport, Processor

__all__ = ["Agent", "Telemetry", "open_agent"]

Model = tuple[bytes, str]
"""A file's content, and how its name ends: as its format's do, or ``skeleton``."""

A = TypeVar("A", bound=answers.Answer)

QUICK_S = 60.0
"""Deadline of hello and telemetry, and what a request gets on top of its own time limit on the board."""

AUTO_POWER_LEAST: Mapping[str, float] = {"block_s": 1.0, "min_s": 5.0, "max_s": 15.0}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Current telemetry; None where the board does not say."""

    temperature_c: float | None = None
    clock_mhz: float | None = None
    governor: str | None = None
    load: float | None = None
    cpu_busy_s: float | None = None
    """All cores together, since the board started."""
    cpu_steal_s: float | None = None
    memory_free_mb: float | None = None
    disk_free_mb: float | None = None
    throttled: str | None = None


def telemetry_of(state: answers.State) -> Telemetry:
    """Return a validated state as a record."""
    return Telemetry(**{f.name: getattr(state, f.name) for f in dataclasses.fields(Telemetry)})


def open_agent(
    device: Device,
    *,
    on_event: OnEvent | None = None,
    record: Record | None = None,
    opening: Opening = open_session,
) -> Agent:
    """Start the agent on ``device`` and hear what board it is.

    Args:
        on_event: hears of progress.
        record: hears of every answered request, for a recording.
        opening: starts the agent; another way to one than the three that ship.

    Raises:
        DeviceError: one of its kinds, each saying what to do.
    """
    return Agent(as_recorded(device), on_event, record, opening)


class Agent:
    """An agent on one device. Reconnects by itself; one request at a time, from any one thread."""

    runtime_choice: RuntimeChoice | None = None
    """Why this runtime, where the inventory leaves a choice."""

    def __init__(
        self,
        device: Device,
        on_event: OnEvent | None = None,
        record: Record | None = None,
        opening: Opening = open_session,
    ) -> None:
        self.device = device
        self._wire = Wire(device, on_event, record, opening)
        known = {  # read with what is packed: the files may change while the session lasts
            name: agent_plugins.runtime_named(name, device.plugins) for name in (device.runtime, *device.runtimes)
        }
        self._session_c: float | None = None
        """Temperature that measurements of this session begin near; None: not known yet."""
        self.facts = self._facts(self._wire.request(answers.Hello, QUICK_S, power=self._power_of_hello()))
        if device.runtimes:
            self.runtime_choice = choose_runtime(device, self.facts)
            self.device = dataclasses.replace(device, runtime=self.runtime_choice.runtime, runtimes=())
        self.runtime = known[self.device.runtime]

    def __enter__(self) -> Agent:
        """Return the agent itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    @property
    def bytes_sent(self) -> int:
        """Bytes of files that went over so far; the agent itself does not count."""
        return self._wire.bytes_sent

    @property
    def onnx_support(self) -> OnnxSupport:
        """The newest ONNX that may be sent: what the inventory pins, else what the device's runtime loads."""
        found = onnx_support_of(self.facts.runtimes.get(self.device.runtime, ""), self.runtime.newest_onnx())
        return OnnxSupport(self.device.onnx_max_opset or found.opset, self.device.onnx_max_ir or found.ir)

    @property
    def int8_operators(self) -> frozenset[str] | None:
        """Kinds of ONNX operators that the board's version of the runtime computes in INT8; None: nobody says."""
        return self.runtime.computed_in_int8(self.facts.runtimes.get(self.device.runtime, ""))

    @functools.cached_property
    def runtime(self) -> agent_plugins.Runtime:
        """What the file of the device's runtime says of it."""
        return agent_plugins.runtime(self.device)

    @property
    def processor(self) -> Processor:
        """What decides on the range of INT8 weights there."""
        return Processor(self.facts.machine, self.facts.vnni)

    @property
    def channel_step(self) -> int:
        """Kept channels are rounded up to a multiple of this."""
        return self.device.channel_step or CHANNEL_STEPS.get(self.facts.simd, 1)

    @property
    def power_backend(self) -> str:
        """The sensor in use: the one named, or under ``auto`` the first that the agent can read, else ``null``.

        The agent lists them in its order of preference, the null sensor last.
        """
        if self.device.power.backend != "auto":
            return self.device.power.backend
        return next((name for name, state in self.facts.sensors.items() if state == "ok"), "null")

    @property
    def shared(self) -> bool:
        """Whether the device is the machine that the user works on."""
        return on_this_machine(self.device)

    @property
    def free_cores(self) -> int:
        """Cores of the device that its runtime leaves free."""
        return max(0, self.facts.cores - self.device.measure.threads)

    @property
    def lookahead(self) -> int:
        """How many candidates may be built while one is measured: 1 where that disturbs no measurement, else 0.

        On the user's own machine the host builds on the cores that the runtime leaves free, where there are any and no
        power is measured: theirs would be in it. Candidate and base model take turns, so that what a busy neighbour
        costs falls on both: beside a torch loop on the second of two cores, a ResNet-20 cut to a half was at 0.769 of
        the base's latency instead of 0.772, a MobileNetV2 at 0.330 instead of 0.332, each ± 0.003 (ten measurements).
        Finalists are measured while the host waits.
        """
        return 1 if not self.shared or (self.free_cores and self.power_backend == "null") else 0

    def calibration(self) -> Known:
        """Return what is known of the device's intervals as it is now; of a recording, what its run went by."""
        if self.device.recording is not None:
            found = read_header(Path(self.device.recording)).calibration
            return Known(found, never=found is None)
        now = Conditions.of(self.device, self.facts, self.settings_for(self.device.measure))
        return known_calibration(self.device, now)

    def settings_for(self, settings: MeasureSettings) -> MeasureSettings:
        """Return ``settings`` with blocks long enough for a sensor that ``auto`` found.

        RAPL gives 20 values a second; shorter blocks would mix the candidate's power with the reference's. Where a
        sensor is named, the inventory has seen to this already.
        """
        if self.device.power.backend != "auto" or self.power_backend == "null":
            return settings
        longer = {name: max(least, getattr(settings, name)) for name, least in AUTO_POWER_LEAST.items()}
        return dataclasses.replace(settings, **longer)

    def hold(self) -> Mapping[str, Any]:
        """Take the board for this agent alone and set the device's power modes; both end with the session.

        Waits as long as the inventory says for whoever holds it; a session that has to be opened anew holds it again.

        Returns:
            {"applied": {mode: value}, "refused": {mode: why}}

        Raises:
            BoardHeldError: somebody else still holds it; says who and since when.
        """
        lock = self.device.lock
        handshake: dict[str, Any] = {
            "owner": f"{getpass.getuser()}@{socket.gethostname()}",
            "session": uuid.uuid4().hex,
            "wait_s": lock.wait_s,
            "ttl_s": lock.ttl_s,
            "modes": dict(self.device.modes),
        }
        if self._wire.handshake is None:
            deadline_s = lock.wait_s + QUICK_S
            self._wire.handshake_answer = self._wire.request(answers.Held, deadline_s, **handshake)
            self._wire.handshake = (deadline_s, handshake)
        return self._wire.handshake_answer.model_dump()

    def meter(self, seconds: float, threads: int) -> answers.Metered:
        """Return the sensor's raw readings at rest and with ``threads`` cores busy, ``seconds`` each."""
        deadline_s = 2 * seconds + QUICK_S
        return self._wire.request(
            answers.Metered, deadline_s, power=self._power(), seconds=seconds, threads=threads
        )  # fmt: skip

    def measure(
        self,
        model: bytes,
        kind: str = "onnx",
        *,
        reference: Model | str | None = None,
        settings: MeasureSettings | None = None,
        reject_above: float | None = None,
    ) -> Measurement:
        """Measure ``model``, with ``reference`` taking turns beside it.

        Args:
            kind: how the file's name ends: as its format's do, or ``skeleton``.
            reference: content and kind, or the name of a file that the agent has.
            reject_above: a share of the reference's latency; a model surely slower is not measured to the end.

        Raises:
            MeasureError: this one model failed on the device; the device is fine.
            DeviceError: the device, or the way to it, failed more often than it is retried.
        """
        chosen = self.settings_for(settings or self.device.measure)
        start, sent = time.monotonic(), self.bytes_sent
        candidate = self._named(model, kind)
        base = self._named(*reference) if isinstance(reference, tuple) else None
        arguments = dataclasses.asdict(chosen)
        del arguments["processes"]  # each is a request of its own
        band_c, max_background_cores = arguments.pop("temperature_band_c"), arguments.pop("max_background_cores")
        answer = self._wire.request(
            answers.Measured,
            chosen.timeout_s + chosen.settle_s + self._build_s(chosen) + QUICK_S,
            files=[candidate] + ([base] if base else []),
            candidate=candidate[0],
            reference=base[0] if base else reference,
            runtime=self.device.runtime,
            options=dict(self.device.runtime_options),
            power=self._power(),
            reject_above=reject_above,
            settle_below_c=None if self._session_c is None else self._session_c + band_c,
            **arguments,
        )
        self._note_temperature(answer.settled)
        seconds = time.monotonic() - start
        try:
            return measurement(
                answer,
                ci_rel=chosen.ci_rel,
                max_background_cores=max_background_cores,
                bytes_sent=self.bytes_sent - sent,
                seconds=seconds,
            )
        except ValueError as e:
            raise MeasureError(f"{self.device.name}: {e}") from e

    def verify(self, model: bytes, inputs: NDArray[np.float32], kind: str = "onnx") -> NDArray[np.float32]:
        """Return the device's own outputs for ``inputs``, one row an image; raises like ``measure``."""
        candidate, images = self._named(model, kind), self._named(_npy(inputs), "npy")
        settings = self.device.measure
        answer = self._wire.request(
            answers.Verified,
            settings.timeout_s + self._build_s(settings) + QUICK_S,
            files=[candidate, images],
            known={"images": len(inputs)},
            candidate=candidate[0],
            inputs=images[0],
            runtime=self.device.runtime,
            options=dict(self.device.runtime_options),
            threads=settings.threads,
            affinity=settings.affinity,
            spinning=settings.spinning,
            timeout_s=settings.timeout_s,
            build_timeout_s=settings.build_timeout_s,
            memory_share=settings.memory_share,
        )
        return answer.rows

    def telemetry(self) -> Telemetry:
        """Return the current telemetry."""
        return telemetry_of(self._wire.request(answers.Telemetry, QUICK_S))

    def request(self, kind: type[A], deadline_s: float = QUICK_S, files: Sequence[File] = (), **arguments: object) -> A:
        """Return the answer to a request of another kind than the above; raises as ``Wire.request``."""
        return self._wire.request(kind, deadline_s, files, None, **arguments)

    def close(self) -> None:
        """Let go of the board and end the agent; asking again would start a new one."""
        self._wire.close()

    def _named(self, content: bytes, extension: str) -> File:
        """Return the file's name and content; refuse one larger than the device accepts."""
        if len(content) > self.device.max_upload_mb * 1e6:
            raise MeasureError(
                f"{self.device.name}: the file has {len(content) / 1e6:.1f} MB, the device accepts"
                f" {self.device.max_upload_mb:g} MB; raise max_upload_mb in the inventory"
            )
        return f"{hashlib.sha256(content).hexdigest()}.{extension}", content

    def _build_s(self, settings: MeasureSettings) -> float:
        return settings.build_timeout_s if self.runtime.builds else 0.0

    def _note_temperature(self, settled: answers.Settled | None) -> None:
        """The session's temperature is the first measurement's, or a later one's that would not settle."""
        if settled is not None and (self._session_c is None or settled.reached is False):
            self._session_c = settled.temperature_c

    def _power(self) -> dict[str, Any]:
        return {"backend": self.power_backend, "options": dict(self.device.power.options)}

    def _power_of_hello(self) -> dict[str, Any] | None:
        power = self.device.power
        return None if power.backend == "auto" else {"backend": power.backend, "options": dict(power.options)}

    def _facts(self, hello: answers.Hello) -> DeviceFacts:
        fields = {f.name: getattr(hello, f.name) for f in dataclasses.fields(DeviceFacts)}
        facts = DeviceFacts(**{**fields, "groups": tuple(hello.groups)})
        wanted = self._wire.zipapp.sha256
        if facts.agent_sha256 != wanted and self.device.recording is None:
            self.close()
            raise AgentError(f"{self.device.name}: another agent answered: {facts.agent_sha256[:12] or 'not a zipapp'}")
        return facts


def _npy(inputs: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(inputs, dtype="<f4"), allow_pickle=False)
    return file.getvalue()
