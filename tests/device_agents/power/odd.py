"""A sensor's file that shows something odd for a moment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

MOMENT_S = 0.12


def write(path: Path, text: str) -> None:
    """Replace a file at once; ``text`` "a folder" makes it one, which no read survives."""
    part = path.with_name(path.name + ".part")
    if path.is_dir():
        path.rmdir()
    if text == "a folder":
        path.unlink()
        path.mkdir()
        return
    part.write_text(text)
    part.replace(path)


@contextlib.contextmanager
def for_a_moment(path: Path, odd: str) -> Iterator[None]:
    """Let the file hold ``odd`` for a while that begins now."""
    before = path.read_text()
    write(path, odd)
    timer = threading.Timer(MOMENT_S, write, (path, before))
    timer.start()
    try:
        yield
    finally:
        timer.join()
