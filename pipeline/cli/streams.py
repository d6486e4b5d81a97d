"""Standard streams that end a command as the shell's tools end: quietly, with their exit status.

Standard output carries the result: where it cannot be written, the command has failed. Standard error carries progress:
where nobody can read that, the work goes on.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, TextIO

from pipeline.cli.exits import Ending, to_nowhere

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_OUT, _ERR = 1, 2


def guard() -> None:
    """Put such streams in the place of the interpreter's, and something in the place of those that are closed."""
    closed = [descriptor for descriptor in (0, _OUT, _ERR) if not _is_open(descriptor)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which no file of ours may have
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout = _text(_Output(_OUT in closed), sys.stdout)
    sys.stderr = _text(_Progress(_ERR, "wb", closefd=False), sys.stderr)


class _Output(io.FileIO):
    """Standard output: what cannot be written ends the process."""

    def __init__(self, closed: bool) -> None:
        super().__init__(_OUT, "wb", closefd=False)
        self._closed_from_the_start = closed

    def write(self, data: ReadableBuffer) -> int:
        """Write all of the bytes."""
        try:
            if self._closed_from_the_start:
                raise OSError(errno.EBADF, "it is closed")
            return _written(self, data)
        except OSError as error:
            to_nowhere([_OUT])  # what is buffered has to go somewhere when the process ends
            if error.errno == errno.EPIPE:
                raise Ending(128 + signal.SIGPIPE) from None
            raise Ending(1, f"error: standard output cannot be written: {error.strerror}") from None


class _Progress(io.FileIO):
    """Standard error: what cannot be written is not written."""

    def write(self, data: ReadableBuffer) -> int:
        """Write all of the bytes."""
        try:
            return _written(self, data)
        except OSError:
            to_nowhere([_ERR])
            return memoryview(data).nbytes


def _written(raw: io.FileIO, data: ReadableBuffer) -> int:
    """Write all of the bytes; wait where another program has made the descriptor one that does not."""
    left = memoryview(data).cast("B")
    while left:
        count = io.FileIO.write(raw, left)
        if count is None:
            select.select([], [raw], [])
        else:
            left = left[count:]
    return memoryview(data).nbytes


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """Return a stream of text.

    No buffer of bytes lies between, as there is none under ``python -u``: it would refuse what a signal's handler
    writes while the program writes. File names that are no UTF-8, and signs that the encoding has not, are written
    as escapes.
    """
    encoding = before.encoding if before is not None else "utf-8"
    lines = raw.isatty() or raw.fileno() == _ERR
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", line_buffering=lines)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
