"""Puts the power modes back when the agent ends, however it ends: a process of its own that waits for nothing else.

    agent ──pipe──► watchdog          end of the pipe → restore → exit

The agent holds the pipe's only other end, so the kernel itself rings when the agent returns, crashes, or is killed by
SIGKILL. The watchdog leads its own session, so no hang-up and no kill of the agent's group reaches it; it inherits the
board's lock, so nobody else gets the board before the modes are back.
"""

import os
import select
import signal
import subprocess
import time
from typing import Any, Callable, Dict

from device_agents import modes, processes, protocol
from device_agents.state import State

_START_S = 20.0
_RESTORE_S = 120.0

Emit = Callable[[Dict[str, Any]], None]


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Wait for the end of stdin, restore, and say what; the process in mode ``watchdog``."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # at a shutdown the agent gets them as well, and its end is our word
    emit({"watching": True})
    while os.read(0, 4096):
        pass
    emit({"restored": modes.restore(State(job["folder"], job["root"]))})


class Watchdog:
    """The agent's end of it; ready when this is made."""

    def __init__(self, state: State, folder: str, lock_fd: int) -> None:
        self._state = state
        self._process = subprocess.Popen(
            processes.command("watchdog"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=processes.environment(),
            start_new_session=True,
            pass_fds=(lock_fd,),
            cwd="/",
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "asked for with subprocess.PIPE"
        assert stdout is not None, "asked for with subprocess.PIPE"
        self._stdin, self._lines = stdin, stdout
        self._stdin.write(protocol.encode({"folder": folder, "root": state.root}))
        self._stdin.flush()
        if "watching" not in self._said(_START_S):
            self._process.kill()
            self._end()
            raise modes.RefusedError("the watchdog that would put it back did not start")

    def restore(self) -> Dict[str, Any]:
        """End the watchdog, which puts the modes back; whatever it left undone is done here."""
        try:
            self._stdin.close()
        except BrokenPipeError:
            pass  # somebody killed it
        restored = self._said(_RESTORE_S).get("restored")
        self._end()
        if restored is None or self._state.there():
            restored = modes.restore(self._state)
        return dict(restored)

    def _said(self, seconds: float) -> Dict[str, Any]:
        """Return its next line; nothing when it ends or stays silent."""
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._lines], [], [], left_s)[0]:
                return {}
            data = os.read(self._lines.fileno(), 4096)
            if not data:
                return {}
            line += data
        return protocol.decode(line)

    def _end(self) -> None:
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lines.close()
