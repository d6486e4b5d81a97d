"""The agent's end of its watchdog, from before a mode is set until all is as it was: see ``watchdog.py``."""

import os
import select
import subprocess
import time
from typing import Any, Dict

from device_agents import launch, modes, protocol
from device_agents.state import State

_START_S = 20.0
_RESTORE_S = 120.0


class Watchdog:
    """The process; it watches when this is made."""

    def __init__(self, state: State, folder: str, lock_fd: int) -> None:
        self._state = state
        self._process = subprocess.Popen(
            launch.command("watchdog"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=launch.environment(),
            start_new_session=True,
            pass_fds=(lock_fd,) + launch.descriptors(),
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
