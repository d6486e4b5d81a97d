"""Flower, which carries weights between sites: where it is installed, silent, and telling nobody of its use.

It pins older versions of packages that the pipeline uses too, so that it gets an environment of its own unless it is
installed beside the pipeline: a command that needs it goes on there, as the same process, by exec(3).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
import traceback
from pathlib import Path

import pipeline
from pipeline.errors import FederationError
from pipeline.side_environment import OnNote, SideEnvironment

VARIABLE = "PIPELINE_FLOWER"
"""Names the Python of an environment that has Flower already."""
REQUIREMENTS = ("flwr==1.42.0",)
MESSAGE_BYTES = 128 * 1024**2
"""Most of a message, above the largest network's weights."""
TENSORS = "safetensors"
"""What Flower's parameters are called: one tensor, which is a policy file."""
_THERE = "PIPELINE_IN_FLOWERS_ENVIRONMENT"

FLOWER = SideEnvironment(
    name="flower", what="Flower", variable=VARIABLE, requirements=REQUIREMENTS, least_free_bytes=10**9,
    attempt="import flwr.server, flwr.client", error=FederationError,
)  # fmt: skip


def require_flower(on_note: OnNote) -> None:
    """See to it that Flower can be imported; where it is not, this command goes on in an environment that has it.

    Args:
        on_note: hears what is being made.

    Raises:
        FederationError: that environment cannot be made, or has no Flower.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    if importlib.util.find_spec("flwr") is not None:
        return
    python = FLOWER.python(on_note)
    if _THERE in os.environ:
        raise FederationError(f"{sys.executable} has no Flower; unset {VARIABLE} to have an environment made that has")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, [str(python), "-m", "pipeline", *sys.argv[1:]], {**os.environ, **_surroundings()})


def _surroundings() -> dict[str, str]:
    """Return what makes this very program importable there."""
    here = str(Path(pipeline.__file__).parents[1])
    already = os.environ.get("PYTHONPATH")
    return {_THERE: "1", "PYTHONPATH": f"{already}{os.pathsep}{here}" if already else here}


def hush() -> None:
    """Keep Flower's own log to errors, through the program's handlers alone, and grpc's threads from printing."""
    threading.excepthook = _show_thread_error
    logger = logging.getLogger("flwr")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.CRITICAL)


def _show_thread_error(error: threading.ExceptHookArgs) -> None:
    """Print what ended a thread, but for grpc's that watches a channel, which fails where that has just been closed."""
    frames = traceback.walk_tb(error.exc_traceback)
    if not any(frame.f_code.co_name == "_poll_connectivity" for frame, _ in frames):
        threading.__excepthook__(error)
