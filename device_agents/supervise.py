"""Waits on the worker, the sensor and the caller at once, and lets none of them be lost unnoticed."""

import contextlib
import select
import time
from typing import Any, Dict, Iterator, List, Optional

from device_agents import memory, protocol, stopping
from device_agents.arguments import Power
from device_agents.errors import AgentError
from device_agents.processes import Child
from device_agents.protocol import BAD_REQUEST, CRASHED, INVALID, TIMEOUT
from device_agents.wire import CallerGoneError, Emit, Lines

_OPEN_SENSOR_S = 10.0
_CLOSE_SENSOR_S = 5.0
_DYING_S = 5.0


def work(
    job: Dict[str, Any],
    timeout_s: float,
    caller: Lines,
    emit: Emit,
    sensor: Optional["Sensor"] = None,
    memory_share: Optional[float] = None,
) -> Any:
    """Run a worker on ``job``; return its result and pass on its events.

    Raises:
        AgentError: what the worker reports; CRASHED when it dies or takes more than ``memory_share`` of the board's
            memory, TIMEOUT when it does not end, INVALID when the sensor fails meanwhile. Whatever the worker started
            is killed in each case.
        CallerGoneError: the caller closed the line.
    """
    with Child("worker", job) as worker:
        deadline = time.monotonic() + timeout_s
        turns: List[Any] = []
        guard = memory.Guard(worker.pid, memory_share)
        for message in _messages(worker, deadline, caller, sensor, guard):
            if "event" in message:
                emit(message)
            elif "turns" in message:
                turns += message["turns"]
                worker.tell({"enough": sensor is None or sensor.enough(turns, message["ci_rel"])})
            elif message["ok"]:
                return message["result"]
            else:
                raise AgentError(message["error"]["kind"], guard.explain(message["error"]["message"]))
        if time.monotonic() >= deadline:
            raise AgentError(TIMEOUT, "no result after %g s: the runtime's process was killed" % timeout_s)
        worker.wait(_DYING_S)
        raise AgentError(CRASHED, guard.explain("the runtime's process " + worker.last_words()))


class Sensor:
    """A power sensor at work in a process of its own, and the samples that it sent."""

    def __init__(self, child: Child, caller: Lines) -> None:
        self.child = child
        self._caller = caller
        self.about: Dict[str, Any] = {}
        self._times: List[float] = []
        self._watts: List[float] = []
        self._volts: List[Optional[float]] = []
        self._dropped = 0

    def take(self) -> None:
        """Take in the samples that have come; raise what the sensor complains of, or that it died."""
        self._collect()
        if not self.child.lines.open:
            self.child.wait(_DYING_S)
            raise AgentError(INVALID, "power: the sensor's process " + self.child.last_words())

    def enough(self, turns: List[Any], ci_rel: float) -> bool:
        """Whether the samples so far tell the energy of the blocks well enough."""
        return stopping.energy_enough(turns, self._times, self._watts, ci_rel)

    def wait(self, seconds: float) -> None:
        """Take samples in for so long, and do nothing else."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _wait([self.child], self._caller, deadline)
            self.take()

    def finish(self, start_s: float, end_s: float) -> Dict[str, Any]:
        """Stop the sensor and return all its samples; INVALID when none lies between the two times."""
        self.child.close_stdin()
        deadline = time.monotonic() + _CLOSE_SENSOR_S
        while self.child.lines.open and time.monotonic() < deadline:
            _wait([self.child], self._caller, deadline)
        self._collect()
        if not any(start_s <= t <= end_s for t in self._times):
            raise AgentError(INVALID, "power: %s gave no sample while the candidate ran" % self.about["source"])
        volts = {"v": self._volts} if self._volts else {}
        return dict(self.about, t_s=self._times, w=self._watts, dropped=self._dropped, **volts)

    def _collect(self) -> None:
        for message in _pop_all(self.child.lines):
            if "sensor" in message:
                self.about = message["sensor"]
            elif "failed" in message:
                kind = INVALID if message["opened"] else BAD_REQUEST
                raise AgentError(kind, "power: " + message["failed"])
            else:
                self._times += message["t_s"]
                self._watts += message["w"]
                self._volts += message.get("volts", [])
                self._dropped = message["dropped"]


@contextlib.contextmanager
def sensing(power: Power, caller: Lines, volts: bool = False) -> Iterator[Optional[Sensor]]:
    """Run the sensor that was asked for, None when none was; it is open when the block begins.

    With ``volts`` it tells the supply voltage beside each value, where it can.

    Raises:
        AgentError: BAD_REQUEST when the sensor cannot be used.
    """
    if not power.wanted:
        yield None
        return
    with Child("sampler", {"backend": power.backend, "options": power.options, "volts": volts}) as child:
        sensor = Sensor(child, caller)
        deadline = time.monotonic() + _OPEN_SENSOR_S
        while not sensor.about:
            if time.monotonic() >= deadline:
                raise AgentError(BAD_REQUEST, "power: %s did not open in %g s" % (power.backend, _OPEN_SENSOR_S))
            _wait([child], caller, deadline)
            sensor.take()
        yield sensor


def _messages(
    worker: Child, deadline: float, caller: Lines, sensor: Optional[Sensor], guard: memory.Guard
) -> Iterator[Dict[str, Any]]:
    """Yield the worker's messages until it falls silent for good or the time is up."""
    children = [worker] + ([sensor.child] if sensor else [])
    while time.monotonic() < deadline:
        for message in _pop_all(worker.lines):
            yield message
        if not worker.lines.open or (worker.ended() and not _ready(worker)):
            return
        _wait(children, caller, min(deadline, time.monotonic() + memory.EVERY_S))
        guard.look()
        if sensor:
            sensor.take()


def _pop_all(lines: Lines) -> Iterator[Dict[str, Any]]:
    line = lines.pop()
    while line is not None:
        yield protocol.decode(line)
        line = lines.pop()


def _ready(worker: Child) -> bool:
    return bool(select.select([worker.lines.fd], [], [], 0)[0])


def _wait(children: List[Child], caller: Lines, deadline: float) -> None:
    """Wait until something came from a child or the caller, a second at most, and read it.

    Raises:
        CallerGoneError: the caller closed the line.
    """
    readers = {child.lines.fd: child.lines.fill for child in children if child.lines.open}
    readers.update({child.stderr_fd: child.drain_stderr for child in children if child.stderr_open})
    readers[caller.fd] = caller.fill
    seconds = max(0.0, min(1.0, deadline - time.monotonic()))
    for fd in select.select(list(readers), [], [], seconds)[0]:
        readers[fd]()
    if not caller.open:
        raise CallerGoneError()
