"""Child processes that cannot outlive the agent: each leads its own group, and dies with its parent."""

import ctypes
import functools
import os
import signal
import subprocess
import time
from types import TracebackType
from typing import IO, Any, Dict, List, Optional, Type

from device_agents import launch, protocol, wire

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TAIL_BYTES = 4000
_LAST_LINES = 5

try:
    _libc = ctypes.CDLL(None)
except OSError:  # a statically linked python: the agent still kills its children when it ends in order
    _libc = None  # type: ignore[assignment]


class Child:
    """The agent in another mode, as a process group of its own; a context manager that leaves nothing running."""

    def __init__(self, mode: str, request: Dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            launch.command(mode),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=launch.environment(),
            pass_fds=launch.descriptors(),
            start_new_session=True,
            preexec_fn=functools.partial(die_with, os.getpid()),
        )
        self._stdin = _pipe(self._process.stdin)
        self._stdout = _pipe(self._process.stdout)
        self._stderr = _pipe(self._process.stderr)
        self.lines = wire.Lines(self._stdout.fileno())
        self.stderr_fd = self._stderr.fileno()
        self.stderr_open = True
        self._tail = b""
        self.tell(request)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.kill()

    def close_stdin(self) -> None:
        """Tell the child that nothing more will come."""
        try:
            self._stdin.close()
        except BrokenPipeError:
            pass

    def drain_stderr(self) -> None:
        """Read what the child said on stderr, keeping only its last words."""
        data = os.read(self.stderr_fd, 1 << 16)
        self.stderr_open = bool(data)
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    def ended(self) -> bool:
        """Whether the process has ended. It stays unreaped, so that its number cannot become another's."""
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return self._process.returncode is not None or os.waitid(os.P_PID, self._process.pid, flags) is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; return whether it did."""
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.ended()

    def kill(self) -> None:
        """Kill the whole group, reap the leader, close the pipes. Harmless when it has ended already."""
        if self._process.returncode is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self.close_stdin()
        self._stdout.close()
        self._stderr.close()

    def last_words(self) -> str:
        """Return how the process ended and the last lines that it wrote; kills what is left of it."""
        words = self.tail()
        self.kill()
        return ending(self._process.returncode) + (": " + words if words else "")

    def tail(self) -> str:
        """Return the last lines that it wrote to stderr so far, in one."""
        self._drain_rest()
        return " | ".join(self._tail.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:])

    def _drain_rest(self) -> None:
        os.set_blocking(self.stderr_fd, False)
        try:
            while self.stderr_open:
                self.drain_stderr()
        except BlockingIOError:
            pass

    def tell(self, message: Dict[str, Any]) -> None:
        """Send the child one line."""
        try:
            self._stdin.write(protocol.encode(message))
            self._stdin.flush()
        except BrokenPipeError:
            pass  # it ended before it listened: whoever waits for its answer will say how


def output_of(command: List[str]) -> "subprocess.Popen[bytes]":
    """Start a program whose output is read, what it says on stderr included, and that dies with this process."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=functools.partial(die_with, os.getpid()),
    )


def ending(code: int) -> str:
    """Say in words how a process ended.

    >>> ending(3)
    'ended with exit code 3'
    >>> ending(-11)
    'was killed by SIGSEGV'
    """
    if code >= 0:
        return "ended with exit code %d" % code
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "signal %d" % -code
    hint = " (out of memory? see dmesg)" if name == "SIGKILL" else ""
    return "was killed by %s%s" % (name, hint)


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, however that ends.

    Runs between fork and exec, and lasts over exec. A parent that is gone already is noticed by its number.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _pipe(end: Optional[IO[bytes]]) -> IO[bytes]:
    assert end is not None, "asked for with subprocess.PIPE"
    return end
