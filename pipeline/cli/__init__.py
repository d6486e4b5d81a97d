"""The command line: one function a verb; nothing else in the project prints."""

from pipeline.cli.app import main

__all__ = ["main"]
