"""Files named by the SHA-256 of their content: written whole or not at all, never twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import StoreError
from pipeline.store.error_translation import explained

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".partial-"
_CHUNK_BYTES = 1 << 20


class Blobs:
    """A folder of blobs, ``<first two digits>/<sha256>``."""

    def __init__(self, folder: Path, *, parents: bool = False) -> None:
        """Name the folder, which is made by the first blob, and those above it if ``parents``."""
        self._folder = folder
        self._parents = parents

    def put(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file, and return the SHA-256 that names them from now on."""
        if isinstance(data, bytes):
            return self._put_stream(io.BytesIO(data))
        with explained(data):
            stream = data.open("rb")
        with stream:
            return self._put_stream(stream)

    def path(self, sha256: str) -> Path:
        """Return where a blob lies; its content is not checked.

        Raises:
            StoreError: there is no such blob.
        """
        path = self._folder / sha256[:2] / sha256
        if not _SHA256.fullmatch(sha256) or not path.is_file():
            raise StoreError(f"there is no blob {sha256!r} in {self._folder}: the run is damaged or not yet so far")
        return path

    def verify(self, sha256: str) -> None:
        """Read a blob through.

        Raises:
            StoreError: it is missing, or its content is not what its name says.
        """
        path = self.path(sha256)
        with explained(path), path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256:
            raise StoreError(f"{path} is damaged: its content has the SHA-256 {found}; delete it and resume the run")

    def sweep(self, *, older_than_s: float = 0.0) -> None:
        """Remove what a killed writer left half written."""
        for partial in self._folder.glob(f"{_PARTIAL}*"):
            with contextlib.suppress(FileNotFoundError):  # it has just become a blob
                if not older_than_s or time.time() - partial.stat().st_mtime >= older_than_s:
                    partial.unlink()

    def _put_stream(self, source: BinaryIO) -> str:
        with explained(self._folder):
            self._folder.mkdir(exist_ok=True, parents=self._parents)
            descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=self._folder)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as target:
                    sha256 = _copy(source, target)
                self._publish(partial, sha256)
            finally:
                partial.unlink(missing_ok=True)
        return sha256

    def _publish(self, partial: Path, sha256: str) -> None:
        path = self._folder / sha256[:2] / sha256
        path.parent.mkdir(exist_ok=True)
        partial.chmod(0o644)
        partial.replace(path)
        sync_folder(path.parent)


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, see fsync(2)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
