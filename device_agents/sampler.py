"""A power sensor in a process of its own: it goes on reading while the runtime holds the other processor.

Lines out: {"sensor": {"source", "scope", "interval_s"}} once it is open, then {"t_s": [...], "w": [...]} a few times a
second, times by time.monotonic at the end of each reading; or {"failed": why, "opened": bool} and the end. It also
ends, in order, when its stdin closes.
"""

import select
import sys
import time
from typing import Any, Callable, Dict, List

from device_agents import plugins
from device_agents.errors import AgentError
from device_agents.power import SensorError

_SEND_EVERY_S = 0.25

Emit = Callable[[Dict[str, Any]], None]


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Read the sensor that the job names until stdin closes."""
    opened = False
    try:
        sensor = plugins.load("device_agents.power", job["backend"]).open(job["options"])
        opened = True
        try:
            emit({"sensor": {"source": sensor.source, "scope": sensor.scope, "interval_s": sensor.interval_s}})
            _sample(sensor, emit)
        finally:
            sensor.close()
    except (SensorError, AgentError) as error:
        emit({"failed": str(error), "opened": opened})


def _sample(sensor: Any, emit: Emit) -> None:
    times: List[float] = []
    watts: List[float] = []
    sent = time.monotonic()
    while not _told_to_stop():
        power_w = sensor.read_w()
        now = time.monotonic()
        times.append(round(now, 6))
        watts.append(round(power_w, 6))
        if now - sent >= _SEND_EVERY_S:
            emit({"t_s": times, "w": watts})
            times, watts, sent = [], [], now
    emit({"t_s": times, "w": watts})


def _told_to_stop() -> bool:
    """Whether stdin has closed: nothing else ever comes on it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
