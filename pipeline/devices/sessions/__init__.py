"""The way to an agent: files go over, a line goes over, lines come back.

Three ship: a child process on this machine, SSH, and a recorded board that is played back. What runs at the other end
of the first two is the same zipapp.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pipeline.devices.sessions.agent_zipapp import Zipapp
from pipeline.records import Device

__all__ = ["MAX_LINE_BYTES", "OnLine", "Session", "Zipapp", "open_session"]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""No answer is longer; a stream without newlines is no agent."""

OnLine = Callable[[bytes], bool]
"""Takes one received line without its newline; returns True when it was the reply."""


class Session(Protocol):
    """A running agent and the way to its folder of files."""

    def put(self, source: bytes | Path, name: str) -> int:
        """Bring a file into the agent's folder; return the bytes that really went over.

        Nothing goes over when a file of that name and size is there; names are content's sha256, and the agent
        checks content before use. The file appears under its name when it is whole, never before.

        Raises:
            DiskFullError: the device has no room; nothing is left behind.
            SessionLostError: cut in the middle.
        """
        ...

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = MAX_LINE_BYTES) -> None:
        """Send one line and hand over what comes back, line by line, until ``on_line`` returns True.

        Args:
            deadline_s: for all of it, whatever comes meanwhile.
            max_bytes: of all that comes back.

        Raises:
            AgentError: more came back.
            ExchangeTimeoutError: not answered in time; the session is of no use any more, close it.
            SessionLostError: the agent or the connection ended.
        """
        ...

    def close(self) -> None:
        """End the agent and the connection; never raises, may be called twice."""
        ...


def open_session(device: Device, zipapp: Zipapp) -> Session:
    """Start the agent on ``device``.

    Raises:
        DeviceError: one of its kinds, each saying what to do.
    """
    if device.recording is not None:
        from pipeline.devices.sessions.replay import ReplaySession

        return ReplaySession(device)
    if device.ssh is None:
        from pipeline.devices.sessions.local import LocalSession

        return LocalSession(device, zipapp)
    from pipeline.devices.sessions.ssh import SshSession  # paramiko takes 0.2 s to import; local runs go without

    return SshSession(device, zipapp)
