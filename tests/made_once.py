"""What several processes of ``pytest -n`` share: made by the first that asks for it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(temporary: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first of all processes of ``pytest -n`` fills, while the others wait for it."""
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder.with_suffix(".made")
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
