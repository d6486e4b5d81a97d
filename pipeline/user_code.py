"""User code behind a run: SHA-256 of its files."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.import_path import NOT_THE_USERS
from pipeline.regular_file import LIST_BYTES, home_expanded, read_bytes

_HERE = Path(__file__).parent
_INSTALLED = tuple(f"{place}/" for place in NOT_THE_USERS)


def code_of(specs: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every file behind import paths that have been imported in this process, by its path.

    These are the module itself, what lies beside it or below, and the other modules of its package; libraries that are
    installed are not among them, unless the path names one.

    Args:
        specs: ``package.module:NAME`` or ``file.py:NAME``.
    """
    found: dict[str, str] = {}
    for spec in specs:
        for file in _files(spec.rpartition(":")[0]):
            with contextlib.suppress(OSError):  # it is gone since it was imported
                found[str(file)] = hashlib.sha256(read_bytes(file, LIST_BYTES)).hexdigest()
    return dict(sorted(found.items()))


def _files(place: str) -> Iterator[Path]:
    """Yield the source files of a module and of the user's modules around it."""
    is_file = place.endswith(".py")
    folder = (home_expanded(place).parent if is_file else Path()).resolve()
    package = place.partition(".")[0]
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py"):
            continue
        named = not is_file and name.partition(".")[0] == package
        if path.startswith(_INSTALLED) and not named:
            continue  # thousands, each link of whose paths would be looked up
        file = Path(path).resolve()
        around = file.is_relative_to(folder) and not any(file.is_relative_to(other) for other in NOT_THE_USERS)
        if around or (named and not file.is_relative_to(_HERE)):
            yield file
