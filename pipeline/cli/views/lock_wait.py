"""Says who holds a board while a short command waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pipeline.cli.console import err

_EVERY_S = 10.0


def print_when_waiting() -> Callable[[Mapping[str, object]], None]:
    """Return a listener for an agent's events that prints the board's holder, at first and now and then."""
    next_s = 0.0

    def on_event(event: Mapping[str, object]) -> None:
        nonlocal next_s
        if event.get("event") == "waiting" and time.monotonic() >= next_s:
            next_s = time.monotonic() + _EVERY_S
            holder = event.get("holder")
            words = holder.get("words") if isinstance(holder, Mapping) else None
            err.print(f"waiting: the board is held by {words or 'another user'}", markup=False)

    return on_event
