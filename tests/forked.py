"""The command line in a process of its own that has the libraries already: forked, where a cold start takes seconds.

Each process of pytest has one server that imports torch and the others once. Every command is forked from it, with
arguments, folder, environment and output of its own. What only a cold start can show takes ``Desk.cold``.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "onnxruntime", "plotly.graph_objects", "rich.logging", "sklearn.datasets", "torch._dynamo", "torch.onnx", "typer",
    "pipeline.zoo.torchvision_ops",
)  # fmt: skip

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([*LIBRARIES, "pipeline.doctor", "pipeline.run"])


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], patience_s: float
) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, output and standard error."""
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        process = _FORKING.Process(target=_command, args=(arguments, folder, environment, out, err))
        process.start()
        process.join(patience_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"did not end: {out.read_text()} {err.read_text()}")
        return process.exitcode, out.read_text(), err.read_text()


def _command(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    for descriptor, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["pipeline", *arguments]
    from pipeline.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them
