"""The command line: one function a verb; nothing else in the project prints."""

from __future__ import annotations

import sys

from pipeline.cli import ending, streams

__all__ = ["main"]


def main() -> None:
    """Run the command line; an expected failure is one line and an exit code, never a traceback."""
    streams.guard()
    ending.watch()
    try:
        with ending.ended_at_once():
            try:
                from pipeline.cli.app import run_command  # takes half a second, in which a signal may come

                run_command()
            finally:
                sys.stdout.flush()
    except ending.Ending as end:
        end.leave()
