"""Where everything is printed: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from pipeline.errors import PipelineError, StoppedError

_PIPE_COLUMNS = 160
"""Width where nobody looks: a file or another program should not get lines folded for an 80-column terminal."""


class PlainConsole(Console):
    """A console that prints what reads as Rich's markup as it stands, unless markup is asked for."""

    def status(self, status: RenderableType, **how: Any) -> Status:
        """Return a spinner with a text beside it, which Rich alone would read as markup."""
        return super().status(Text(status) if isinstance(status, str) else status, **how)


def _console(*, stderr: bool) -> Console:
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else _PIPE_COLUMNS
    return PlainConsole(stderr=stderr, highlight=False, soft_wrap=True, width=width, markup=False, emoji=False)


out = _console(stderr=False)
err = _console(stderr=True)


def print_json(value: object) -> None:
    """Print a record or plain values as JSON, character by character as it is."""
    from pipeline import serialization  # pydantic takes its time, and most verbs do without

    sys.stdout.write(serialization.to_text(value, indent=2) + "\n")


def print_error(error: PipelineError) -> None:
    """Print an expected failure on one line of standard error."""
    label = Text() if isinstance(error, StoppedError) else Text("error: ", style="bold red")
    err.print(label.append(" ".join(str(error).split()), style="not bold default"))
