"""Waiting until the board is cool, so that each candidate begins as warm as the one before it."""

import time
from typing import Any, Dict, Optional

from device_agents.progress import EVERY_S, Progress
from device_agents.readings import ROOT
from device_agents.telemetry import temperature_c


def settle(below_c: Optional[float], within_s: float, progress: Progress, root: str = ROOT) -> Dict[str, Any]:
    """Wait until the board is no hotter than ``below_c``, at most ``within_s``; None: do not wait.

    Returns:
        {"temperature_c", "waited_s", "reached": whether it was cool enough in time, None if nobody can tell}
    """
    start = time.monotonic()
    now_c = temperature_c(root)
    while below_c is not None and now_c is not None and now_c > below_c:
        if time.monotonic() - start >= within_s:
            break
        progress.tell("cool down")
        time.sleep(min(EVERY_S, within_s))
        now_c = temperature_c(root)
    known = below_c is not None and now_c is not None
    return {
        "temperature_c": now_c,
        "waited_s": round(time.monotonic() - start, 3),
        "reached": bool(now_c <= below_c) if known else None,  # type: ignore[operator]
    }
