"""Puts the power modes back when the agent ends, however it ends: a process of its own that waits for nothing else.

    agent ──pipe──► watchdog          end of the pipe → restore → exit

The agent holds the pipe's only other end, so the kernel itself rings when the agent returns, crashes, or is killed by
SIGKILL. The watchdog leads its own session, so no hang-up and no kill of the agent's group reaches it; it inherits the
board's lock, so nobody else gets the board before the modes are back.
"""

import os
import signal
from typing import Any, Dict

from device_agents import modes
from device_agents.state import State
from device_agents.wire import Emit


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Wait for the end of stdin, restore, and say what; the process in mode ``watchdog``."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # at a shutdown the agent gets them as well, and its end is our word
    emit({"watching": True})
    while os.read(0, 4096):
        pass
    emit({"restored": modes.restore(State(job["folder"], job["root"]))})
