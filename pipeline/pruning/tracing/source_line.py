"""Source location of an operator: the layer, and the line of the user's forward()."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path, PurePath
from types import FrameType

import torch
from torch import fx

_LINE = "line_of_code"
"""Key of a node's metadata."""
_TORCHS = str(Path(torch.__file__).parent)
_OURS = (_TORCHS, str(Path(__file__).parents[2]), "<")
"""Whose frames are no user's code: torch, this package, and code that was made while it runs."""
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def note_line(node: fx.Node) -> None:
    """Keep with a node the line of the user's code that is being recorded right now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None:
        node.meta[_LINE] = _spelled(frame.f_code.co_filename, frame.f_lineno)


def origin(node: fx.Node) -> str:
    """Return layer and line, as ``layer1.0, net.py:14``; what is not known is left out."""
    stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    layer = stack[-1].partition("@")[0] if stack else ""
    line = node.meta.get(_LINE) or _last_line(_FRAME.findall(node.stack_trace or ""))
    return ", ".join(part for part in (layer, line) if part)


def line_of(error: BaseException) -> str:
    """Return the user's line in which an error arose, as ``net.py:14``; empty where it was none of the user's."""
    return _last_line((frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__))


def is_torchs(file: str) -> bool:
    """Return whether a file is a part of torch."""
    return file.startswith(_TORCHS)


def _last_line(frames: Iterable[tuple[str, object]]) -> str:
    users = [_spelled(file, line) for file, line in frames if not _is_ours(file)]
    return users[-1] if users else ""


def _is_ours(file: str) -> bool:
    return file.startswith(_OURS)


def _spelled(file: str, line: object) -> str:
    return f"{PurePath(file).name}:{line}"
