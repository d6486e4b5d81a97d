"""The agent's modules compiled, as a zipapp that this one Python loads several times faster than sources."""

import importlib.util
import marshal
import sys
import zipfile

_AFTER_MAGIC = 8 if sys.version_info < (3, 7) else 12
"""Bytes of a source's date and size, and of flags since PEP 552: zero, as there is no source to compare with."""


def write(archive: str, out: int) -> None:
    """Compile every module in ``archive`` into a zipapp on the descriptor ``out``, which can be sought in."""
    header = importlib.util.MAGIC_NUMBER + bytes(_AFTER_MAGIC)
    with zipfile.ZipFile(archive) as sources, open(out, "wb", closefd=False) as file:
        with zipfile.ZipFile(file, "w") as target:
            for name in sources.namelist():
                code = compile(sources.read(name), name, "exec", dont_inherit=True)
                target.writestr(name + "c", header + marshal.dumps(code))
