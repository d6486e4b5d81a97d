"""A power sensor in a process of its own: it goes on reading while the runtime holds the other processor.

Lines out: {"sensor": {"source", "scope", "interval_s", "estimated"}} once it is open, then {"t_s": [...], "w": [...]} a
few times a second, times by time.monotonic at the end of each reading; or {"failed": why, "opened": bool} and the end.
Where the job asks for ``volts`` and the sensor knows them, "volts": [...] stands beside "w"; "dropped" is how many
readings could not be true so far. It also ends, in order, when its stdin closes.
"""

import select
import sys
import time
from typing import Any, Dict, List

from device_agents import plugins
from device_agents.errors import AgentError
from device_agents.power import SensorError
from device_agents.wire import Emit

_SEND_EVERY_S = 0.25


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Read the sensor that the job names until stdin closes."""
    opened = False
    try:
        sensor = plugins.load("device_agents.power", job["backend"]).open(job["options"])
        opened = True
        try:
            emit({"sensor": about(sensor)})
            _sample(sensor, bool(job.get("volts")) and hasattr(sensor, "volts"), emit)
        finally:
            sensor.close()
    except (SensorError, AgentError) as error:
        emit({"failed": str(error), "opened": opened})


def about(sensor: Any) -> Dict[str, Any]:
    """Return what the host has to know of every figure that comes from ``sensor``."""
    return {
        "source": sensor.source,
        "scope": sensor.scope,
        "interval_s": sensor.interval_s,
        "estimated": bool(getattr(sensor, "estimated", False)),
    }


def _sample(sensor: Any, volts: bool, emit: Emit) -> None:
    samples = _empty(volts)
    sent = time.monotonic()
    while not _told_to_stop():
        power_w = sensor.read_w()
        now = time.monotonic()
        samples["t_s"].append(round(now, 6))
        samples["w"].append(round(power_w, 6))
        if volts:
            samples["volts"].append(sensor.volts())
        if now - sent >= _SEND_EVERY_S:
            emit(dict(samples, dropped=_dropped(sensor)))
            samples, sent = _empty(volts), now
    emit(dict(samples, dropped=_dropped(sensor)))


def _dropped(sensor: Any) -> int:
    return int(getattr(sensor, "dropped", 0))


def _empty(volts: bool) -> Dict[str, List[Any]]:
    return {name: [] for name in (("t_s", "w", "volts") if volts else ("t_s", "w"))}


def _told_to_stop() -> bool:
    """Whether stdin has closed: nothing else ever comes on it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
