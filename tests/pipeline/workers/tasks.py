"""Tasks for workers of tests, sent as code: no worker can import this file."""

# ruff: noqa: ARG002 - the signature is that of a task

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.events import Stage, StageProgress
from pipeline.workers.executor import Tell


@dataclass(frozen=True)
class Multiply:
    """Times the shared number."""

    by: int
    trains: ClassVar[bool] = False

    def __call__(self, inputs: int, tell: Tell) -> tuple[int, int]:
        return self.by * inputs, os.getpid()


@dataclass(frozen=True)
class Refuse:
    """Fails as a candidate does, or as a library does."""

    error: Exception
    trains: ClassVar[bool] = False

    def __call__(self, inputs: object, tell: Tell) -> None:
        raise self.error


@dataclass(frozen=True)
class Die:
    """Is killed, as by a system without memory, until it has been so often."""

    marks: Path
    times: int
    trains: ClassVar[bool] = False

    def __call__(self, inputs: Any, tell: Tell) -> str:
        number = len(list(self.marks.iterdir()))
        if number < self.times:
            (self.marks / str(number)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"done after {number}"


@dataclass(frozen=True)
class Steps:
    """Tells of steps until it is stopped, then tells where it was."""

    trains: ClassVar[bool] = False

    def __call__(self, inputs: Any, tell: Tell) -> None:
        tell(Stage("Count", 1000))
        for step in range(1000):
            try:
                tell(StageProgress(step))
            except BaseException:
                tell(("put away", step))
                raise
            time.sleep(0.01)
