"""All of a board at work for a while, where no sensor looks on: does it stay cool, and does the supply hold?

The result is ``meter``'s without samples: {"about": null, "rest": null, "load": null, "threads", "before", "during",
"after"}, the last three telemetry.
"""

import time
from typing import Any, Dict

from device_agents import meter, telemetry
from device_agents.holding import listen
from device_agents.progress import Progress
from device_agents.wire import Emit, Lines

_LOOK_EVERY_S = 1.0


def run(seconds: float, threads: int, folder: str, caller: Lines, emit: Emit) -> Dict[str, Any]:
    """Keep ``threads`` processors busy for ``seconds``.

    Raises:
        CallerGoneError: the caller closed the line.
    """
    progress = Progress(emit)
    before = telemetry.now(folder)
    with meter.busy(threads):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            progress.tell("load")
            listen(caller, min(_LOOK_EVERY_S, max(0.0, end - time.monotonic())))
        during = telemetry.now(folder)
    states = {"before": before, "during": during, "after": telemetry.now(folder)}
    return dict(states, about=None, rest=None, load=None, threads=threads)
