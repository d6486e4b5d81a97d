"""The agent's modules compiled, as a zipapp that this one Python loads several times faster than sources."""

import importlib.util
import marshal
import sys
import zipfile
from typing import Tuple

_AFTER_MAGIC = 8 if sys.version_info < (3, 7) else 12
"""Bytes of a source's date and size, and of flags since PEP 552: zero, as there is no source to compare with."""


def write(archive: str, out: int) -> None:
    """Compile every module in ``archive`` into a zipapp on the descriptor ``out``, which can be sought in."""
    header = importlib.util.MAGIC_NUMBER + bytes(_AFTER_MAGIC)
    with zipfile.ZipFile(archive) as sources, open(out, "wb", closefd=False) as file:
        with zipfile.ZipFile(file, "w") as target:
            for name in sources.namelist():
                target.writestr(*_compiled(name, sources.read(name), header))


def _compiled(name: str, source: bytes, header: bytes) -> Tuple[str, bytes]:
    """Return a module's file; its source where this Python cannot read it, so that whoever imports it hears why."""
    try:
        return name + "c", header + marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a plugin of the user's own
        return name, source
