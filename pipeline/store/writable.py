"""Write test of a folder: permissions, mounts, quotas and full disks all show in it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pipeline.regular_file import exists
from pipeline.store.error_translation import explained

LEAST_BYTES = 1024 * 1024
"""What a run of the smallest network needs."""


def try_out(folder: Path) -> None:
    """Write a file in a folder and remove it, and the folders that had to be made for it.

    Raises:
        StoreError: the folder cannot be made or written, or has no room.
    """
    made = [parent for parent in (folder, *folder.parents) if not exists(parent)]
    with explained(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder)
        finally:
            for parent in made:
                with contextlib.suppress(OSError):  # never made, or another process has begun a run in it
                    parent.rmdir()


def _write(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(prefix=".trying-", dir=folder) as file:
        file.write(bytes(LEAST_BYTES))
        file.flush()
        os.fsync(file.fileno())
