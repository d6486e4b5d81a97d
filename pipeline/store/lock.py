"""Writer lock: one process writes a run; the kernel frees the lock when it ends."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from pathlib import Path

import psutil

from pipeline.errors import RunInUseError
from pipeline.store.error_translation import explained

_NAME = "lock"
_MOST_SHOWN = 100
_PATIENCE_S = 0.5
"""A reader that asks whether the lock is free holds it for microseconds; a writer outwaits that."""


class WriterLock:
    """The right to write one run's folder; ``flock(2)`` on a file that names the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            RunInUseError: another process has it; names its pid.
        """
        path = folder / _NAME
        with explained(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with explained(path):
                self._take(folder)
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self, folder: Path) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not _try(self._descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise RunInUseError(f"run {folder.name} is being written by {_writer(self._descriptor)}")
            time.sleep(0.01)


def is_written(folder: Path) -> bool:
    """Say whether a process holds the run's lock."""
    try:
        descriptor = os.open(folder / _NAME, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _writer(descriptor: int) -> str:
    """Return in words who has the lock and how to end that, as far as this machine knows the process."""
    written = os.pread(descriptor, 32, 0).decode("ascii", "replace")
    try:
        process = psutil.Process(int(written))
        command, user = shlex.join(process.cmdline()), process.username()
    except (ValueError, OverflowError, psutil.Error):
        return "a process that this machine does not know, perhaps of another one; wait until it ends"
    shown = "".join(sign if sign.isprintable() else " " for sign in command)[:_MOST_SHOWN]
    return f"process {process.pid}; wait until it ends, or stop it ({shown}, of {user}): kill {process.pid}"


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
