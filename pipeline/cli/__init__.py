"""The command line: one function a verb; nothing else in the project prints."""

from __future__ import annotations

import os
import signal
import sys

from pipeline.cli import exits, streams

__all__ = ["main"]


def main() -> None:
    """Run the command line; an expected failure is one line and an exit code, never a traceback."""
    try:
        with exits.ended_at_once():
            streams.guard()
            exits.watch()
            try:
                from pipeline.cli.app import run_command  # takes half a second, in which a signal may come

                run_command()
            finally:
                sys.stdout.flush()
    except exits.Ending as end:
        end.leave()
    except KeyboardInterrupt:  # before the signal was heeded
        os._exit(128 + signal.SIGINT)
