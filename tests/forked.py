"""The command line in a process of its own that has the libraries already: forked, where a cold start takes seconds.

Each process of pytest has one server that imports torch and the others once. Every command is forked from it, with
arguments, folder, environment and output of its own. What only a cold start can show takes ``Desk.cold``.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

LIBRARIES = (
    "onnx.compose", "onnxruntime", "plotly.graph_objects", "rich.logging", "sklearn.datasets",
    "sklearn.gaussian_process", "torch._dynamo", "torch.export._trace", "torch.onnx", "typer",
    "pipeline.torchvision_compat",
)  # fmt: skip
"""What takes a run tenths of a second to import; not ``pipeline.cli``, which looks at its output as it is imported."""

_FORKING = multiprocessing.get_context("forkserver")
_COMMANDS = ("pipeline.devices.diagnostics.doctor", "pipeline.devices.inventory.load", "pipeline.run.runner")
_FORKING.set_forkserver_preload([*LIBRARIES, *_COMMANDS])


class Running:
    """A forked command that a test reads from and sends signals to, as it does to ``subprocess.Popen``."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        ends = [_FORKING.Pipe(duplex=False) for _ in range(2)]
        writing = [far for _, far in ends]
        self._process = _FORKING.Process(target=_piped, args=(arguments, folder, environment, *writing))
        self._process.start()
        self.stdout, self.stderr = (os.fdopen(os.dup(near.fileno())) for near, _ in ends)
        for end in (*writing, *(near for near, _ in ends)):
            end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._readers: list[_Reader] = []

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal's number if one ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the same once it has ended."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired("pipeline", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it has yet to print, output and standard error, and wait for its end."""
        self._readers = self._readers or [_Reader(self.stdout), _Reader(self.stderr)]
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        out, err = (reader.text for reader in self._readers)
        return out, err


class _Reader(threading.Thread):
    """Reads a stream to its end beside another one."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(daemon=True)
        self.text = ""
        self._stream = stream
        self.start()

    def run(self) -> None:
        with self._stream:
            self.text = self._stream.read()


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], patience_s: float
) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, output and standard error."""
    return _ended(_command, (arguments,), folder, environment, patience_s)


def run_script(
    script: Path, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], patience_s: float
) -> tuple[int, str, str]:
    """Run a script of Python to its end; return the same."""
    return _ended(_script, (script, arguments), folder, environment, patience_s)


def _ended(
    target: Callable[..., None],
    what: tuple[object, ...],
    folder: Path,
    environment: Mapping[str, str],
    patience_s: float,
) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        process = _FORKING.Process(target=target, args=(*what, folder, environment, out, err))
        process.start()
        process.join(patience_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"did not end: {out.read_text()} {err.read_text()}")
        return process.exitcode, out.read_text(), err.read_text()


def _command(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    _redirect(out, err)
    _main(arguments, folder, environment)


def _script(
    script: Path, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> None:
    _redirect(out, err)
    _enter(folder, environment)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def _redirect(out: Path, err: Path) -> None:
    for descriptor, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)


def _piped(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Connection, err: Connection
) -> None:
    for descriptor, pipe in ((1, out), (2, err)):
        os.dup2(pipe.fileno(), descriptor)
        pipe.close()
    opened = os.open(os.devnull, os.O_RDWR)
    os.dup2(opened, 0)
    os.close(opened)
    _main(arguments, folder, environment)


def _main(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    _enter(folder, environment)
    sys.argv = ["pipeline", *arguments]
    from pipeline.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them


def _enter(folder: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
