"""Worker process on this machine: started, called over a socket, ended with the process that started it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.errors import WorkersError
from pipeline.workers.executor import Shared
from pipeline.workers.messages import HEARD, STOP, Call, Logged, Message, Said, dumps, loads
from pipeline.workers.pool import WorkerGoneError

_MAIN = "pipeline.workers.process_main"
_STDERR = 2
_END_S = 5.0
"""So long may a process take to end; then it is killed."""


class ProcessWorker:
    """One process, which ends when this one does, however that ends."""

    def __init__(self, number: int, gpus: int) -> None:
        """Start it; it loads torch meanwhile.

        Args:
            number: of the worker, from 0 on.
            gpus: of this machine, which the workers use in turns.
        """
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MAIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], env=_environment(number, gpus), stdin=subprocess.DEVNULL,
                stdout=_STDERR,  # standard output is the command's alone
                start_new_session=True,  # Ctrl-C is for this process to hear, which then tells its workers
            )  # fmt: skip
        except OSError as error:
            raise WorkersError(
                f"a worker process cannot be started: {error.strerror}; ask for fewer --workers"
            ) from error
        finally:
            theirs.close()
        self._line: Connection[bytes, bytes] = Connection(os.dup(self._socket.fileno()))
        self.name = f"worker {number + 1}"
        self._sending = threading.Lock()
        self._has = ""
        self._unheard = False

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def begin(self, task: bytes, shared: Shared[object]) -> None:
        """Send a task; what it is computed from, too, unless the process has it from the task before."""
        payload = None if self._has == shared.id else shared.payload
        self._sent(dumps((Call(shared.id, task), payload)))
        self._has = shared.id

    def answer(self) -> Message:
        """Wait for the next message about the task."""
        if self._unheard:
            self._sent(dumps(HEARD))  # the one before, which is through with whoever asks for the next
        try:
            message: Message = loads(self._line.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorkerGoneError(self._how_it_ended()) from error
        self._unheard = isinstance(message, Said | Logged)
        return message

    def stop(self) -> None:
        """Ask the task to end where it next says something."""
        self._sent(dumps(STOP))

    def close(self) -> None:
        """End the process: it ends by itself when the line to it is cut, which ends a wait for its answer, too."""
        with contextlib.suppress(OSError):  # it is cut already
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def _sent(self, message: bytes) -> None:
        try:
            with self._sending:
                self._line.send_bytes(message)
        except OSError as error:
            raise WorkerGoneError(self._how_it_ended()) from error

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "it does not answer any more"
        if status == -9:
            return "it was killed, as by a system that runs out of memory"
        return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"


def _environment(number: int, gpus: int) -> dict[str, str]:
    """Return a worker's environment: modules are found where this process finds them, GPUs are shared out."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    return environment
