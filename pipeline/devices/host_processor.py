"""Host processor: what the agent tells of a board's processor, of this machine's."""

from __future__ import annotations

import platform

from device_agents import board, readings
from pipeline.records import Processor


def host_processor() -> Processor:
    """Return this machine's processor, on which accuracy is read."""
    return Processor(platform.machine(), board.vnni(readings.text("/proc/cpuinfo") or ""))
