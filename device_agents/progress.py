"""Tells the host what goes on while a request takes its time."""

import time

from device_agents.telemetry import temperature_c
from device_agents.wire import Emit

EVERY_S = 1.0


class Progress:
    """Tells the host about every second what is going on, between the blocks, never inside one."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._start = time.monotonic()
        self._next = 0.0
        self._stage = ""

    def tell(self, stage: str) -> None:
        """Send an event when a second has passed or the stage is new."""
        now = time.monotonic()
        if now < self._next and stage == self._stage:
            return
        self._next, self._stage = now + EVERY_S, stage
        self._emit(
            {
                "event": "progress",
                "stage": stage,
                "seconds": round(now - self._start, 3),
                "temperature_c": temperature_c(),
            }
        )
