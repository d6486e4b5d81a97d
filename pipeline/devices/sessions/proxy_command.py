"""A shell command as the way to a host: OpenSSH's ProxyCommand, whose stdin and stdout are the connection.

The command gets one end of a socket pair, so that paramiko has a real socket with time-outs and an end.
(``paramiko.ProxyCommand`` splits the command without a shell, and waits for ever for one that has ended.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile

from pipeline.devices.sessions.line_protocol import last_lines

_GOODBYE_S = 1.0


class ProxyCommand:
    """A running command, in a process group of its own, and our end of its connection."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.said = ""
        """The last lines that it wrote to stderr, once it has ended."""
        self.socket, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError:
            self.socket.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    def close(self) -> None:
        """End the command and all that it started; may be called twice."""
        if self._stderr.closed:
            return
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GOODBYE_S)
        self._stderr.seek(0)
        self.said = last_lines(self._stderr.read())
        self._stderr.close()
