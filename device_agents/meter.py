"""Tests a meter: its values while the board rests, and again while all of it works.

The load is plain Python, one endless loop a thread, each in a process that dies with the agent: it needs no model and
no runtime, and shows whether the sensor follows and whether the supply holds. It is no measure of a network's power.

The result holds raw samples; what they say of the meter is for the host to compute:

{"about": {"source", "scope", "interval_s", "estimated"},
 "rest": {"start_s", "end_s", "t_s": [...], "w": [...], "v": [...] or null},
 "load": the same,
 "dropped": readings that could not be true,
 "threads", "before": telemetry, "during": telemetry as the load runs, "after": telemetry}

Times are time.monotonic's; "v" is the supply voltage, null from a sensor that does not know it.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, Optional

from device_agents import processes, supervise, telemetry
from device_agents.arguments import Power
from device_agents.errors import AgentError
from device_agents.progress import Progress
from device_agents.protocol import BAD_REQUEST
from device_agents.wire import Emit, Lines

_ENDLESS = "while True: pass"


def run(power: Power, seconds: float, threads: int, folder: str, caller: Lines, emit: Emit) -> Dict[str, Any]:
    """Read the sensor for ``seconds`` at rest and as long with ``threads`` processes busy.

    Raises:
        AgentError: BAD_REQUEST without a sensor or for one that cannot be used; INVALID when it fails on the way.
        CallerGoneError: the caller closed the line.
    """
    if not power.wanted:
        raise AgentError(BAD_REQUEST, "no sensor to test: write one under `power` in the inventory")
    progress = Progress(emit)
    with supervise.sensing(power, caller, volts=True) as sensor:
        assert sensor is not None, "power is wanted"
        before = telemetry.now(folder)
        rest = _phase(sensor, "rest", seconds, progress)
        with busy(threads):
            load = _phase(sensor, "load", seconds, progress)
            during = telemetry.now(folder)
        samples = sensor.finish(rest["start_s"], load["end_s"])
    return {
        "about": sensor.about,
        "rest": dict(rest, **within(samples, rest["start_s"], rest["end_s"])),
        "load": dict(load, **within(samples, load["start_s"], load["end_s"])),
        "dropped": samples["dropped"],
        "threads": threads,
        "before": before,
        "during": during,
        "after": telemetry.now(folder),
    }


@contextlib.contextmanager
def busy(threads: int) -> Iterator[None]:
    """Keep so many processors busy; the processes are gone when the block ends, and when the agent does."""
    started: List["subprocess.Popen[bytes]"] = []
    try:
        for _ in range(threads):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-E", "-c", _ENDLESS],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    preexec_fn=functools.partial(processes.die_with, os.getpid()),
                )
            )
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
        for process in started:
            process.wait()


def within(samples: Dict[str, Any], start_s: float, end_s: float) -> Dict[str, Optional[List[Any]]]:
    """Return the samples of one window.

    >>> within({"t_s": [1.0, 2.0, 3.0], "w": [5.0, 6.0, 7.0]}, 1.5, 3.0)
    {'t_s': [2.0, 3.0], 'w': [6.0, 7.0], 'v': None}
    """
    chosen = [i for i, t in enumerate(samples["t_s"]) if start_s <= t <= end_s]
    return {name: [samples[name][i] for i in chosen] if name in samples else None for name in ("t_s", "w", "v")}


def _phase(sensor: supervise.Sensor, stage: str, seconds: float, progress: Progress) -> Dict[str, float]:
    """Let the sensor run for so long, telling the host about every second; return the window."""
    start_s = time.monotonic()
    while time.monotonic() < start_s + seconds:
        progress.tell(stage)
        sensor.wait(min(1.0, max(0.0, start_s + seconds - time.monotonic())))
    return {"start_s": start_s, "end_s": time.monotonic()}
