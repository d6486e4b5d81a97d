"""Training checkpoints: one file a training, replaced atomically."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pipeline.regular_file import WEIGHTS_BYTES, exists, read_bytes
from pipeline.store.blobs import sync_folder
from pipeline.store.error_translation import explained

FOLDER = "checkpoints"
_PARTIAL = ".partial-"


class CheckpointFile:
    """One training's file; it is gone once the training's result is stored."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.safetensors"

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was."""
        with explained(self._path):
            return read_bytes(self._path, WEIGHTS_BYTES) if exists(self._path) else None

    def write(self, data: bytes) -> None:
        """Replace what is there; it is on the disk when this returns.

        Raises:
            StoreError: there is no room, or no right to write.
        """
        with explained(self._path.parent):
            self._path.parent.mkdir(exist_ok=True)
        write_whole(self._path, data)

    def remove(self) -> None:
        """Leave nothing there, nor an empty folder."""
        with explained(self._path):
            self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or another training's file lies in it
            self._path.parent.rmdir()


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file atomically; it is on the disk when this returns.

    Raises:
        StoreError: there is no room, or no right to write.
    """
    folder = path.parent
    with explained(folder):
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as target:
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(folder)


def sweep(folder: Path) -> None:
    """Remove what a killed writer left half written."""
    for partial in folder.glob(f"{_PARTIAL}*"):
        partial.unlink(missing_ok=True)
