"""Files that hosts share: blobs by their SHA-256, and checkpoints, in a folder or in an object store by fsspec."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import ConfigError, StoreError, first_line
from pipeline.regular_file import WEIGHTS_BYTES, exists, read_bytes
from pipeline.store import writable
from pipeline.store.blobs import Blobs
from pipeline.store.checkpoints import write_whole
from pipeline.store.error_translation import explained
from pipeline.store.open_run import BlobFiles
from pipeline.store.shared.url import hide_password, is_url

_CHUNK_BYTES = 1 << 20
_STALE_S = 24 * 3600.0
"""After so long, what is half written is of a process that was killed."""


class ObjectFiles(Protocol):
    """Blobs, and objects by a name that is never used twice."""

    @property
    def blobs(self) -> BlobFiles:
        """Files by their content."""

    def write(self, name: str, data: bytes) -> None:
        """Store an object."""

    def read(self, name: str) -> bytes | None:
        """Return an object; None where there is none."""

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""

    def sweep(self) -> None:
        """Remove what was left half written long ago."""

    def try_out(self) -> None:
        """Raise StoreError where nothing could be stored; leave nothing behind."""


def open_files(where: str, cache: Path) -> ObjectFiles:
    """Return the files that lie in a folder, or behind a URL.

    Args:
        where: as it was typed.
        cache: a folder of this machine, in which blobs behind a URL are kept.

    Raises:
        ConfigError: fsspec, or what it needs for such a URL, is not installed.
    """
    local = where.removeprefix("file://") if where.startswith("file:///") else where
    return RemoteFiles(local, cache) if is_url(local) else FolderFiles(Path(local).expanduser().absolute())


class FolderFiles:
    """A folder that all hosts see, as by NFS: nothing is copied to be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def blobs(self) -> Blobs:
        """Files in the folder itself."""
        return Blobs(self._folder, parents=True)

    def write(self, name: str, data: bytes) -> None:
        """Store an object, whole or not at all."""
        path = self._folder / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)

    def read(self, name: str) -> bytes | None:
        """Return an object; None where there is none."""
        path = self._folder / name
        with explained(path):
            return read_bytes(path, WEIGHTS_BYTES) if exists(path) else None

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""
        path = self._folder / name
        with explained(path):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or not empty
            path.parent.rmdir()

    def sweep(self) -> None:
        """Remove what was left half written long ago; what is young may be another host's, which is writing it."""
        self.blobs.sweep(older_than_s=_STALE_S)

    def try_out(self) -> None:
        """Write a file and remove it."""
        writable.try_out(self._folder)


class RemoteFiles:
    """An object store: blobs are copied here once, and checked by their name."""

    def __init__(self, url: str, cache: Path) -> None:
        self._shown = hide_password(url)
        self._files, self._root = _file_system(url, self._shown)
        self._cache = cache

    @property
    def blobs(self) -> RemoteBlobs:
        """Blobs in the store."""
        return RemoteBlobs(self, Blobs(self._cache, parents=True))

    def write(self, name: str, data: bytes) -> None:
        """Store an object."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.upload(name, Path(file.name))

    def read(self, name: str) -> bytes | None:
        """Return an object; None where there is none."""
        with self.explained(name):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""
        with self.explained(name):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def size_bytes(self, name: str) -> int | None:
        """Return how large an object is; None where there is none."""
        with self.explained(name):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def upload(self, name: str, source: Path) -> None:
        """Store a file as an object."""
        with self.explained(name):
            self._files.put_file(str(source), self._path(name))

    def download(self, name: str, target: Path) -> bool:
        """Copy an object into a file; return whether there is one."""
        with self.explained(name):
            try:
                self._files.get_file(self._path(name), str(target))
            except FileNotFoundError:
                return False
        return True

    def sweep(self) -> None:
        """Nothing is left half written under a name that is asked for."""

    def try_out(self) -> None:
        """Write an object and remove it."""
        name = f".trying-{secrets.token_hex(8)}"
        self.write(name, b"\0")
        self.remove(name)

    @contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Turn what goes wrong with an object into a StoreError."""
        try:
            yield
        except Exception as error:  # each store's library raises its own
            raise StoreError(
                f"{self._shown}/{name} cannot be read or written ({type(error).__name__}: {first_line(error)}); check "
                "the bucket, the credentials in the environment and the way there; then a run can be resumed"
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def __str__(self) -> str:
        return self._shown


class RemoteBlobs:
    """Blobs of an object store, and their copies on this machine."""

    def __init__(self, files: RemoteFiles, cache: Blobs) -> None:
        self._files = files
        self._cache = cache

    def put(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file; return their SHA-256. One that was half sent is sent again."""
        sha256 = self._cache.put(data)
        copy = self._cache.path(sha256)
        if self._files.size_bytes(_name(sha256)) != copy.stat().st_size:
            self._files.upload(_name(sha256), copy)
        return sha256

    def path(self, sha256: str) -> Path:
        """Return a blob's copy on this machine, which is made if it is missing.

        Raises:
            StoreError: there is no such blob, or its content is not what its name says.
        """
        try:
            return self._cache.path(sha256)
        except StoreError:
            self._fetch(sha256)
        return self._cache.path(sha256)

    def verify(self, sha256: str) -> None:
        """Read a blob through, in the store itself; raise StoreError as ``path``."""
        with tempfile.TemporaryDirectory() as folder:
            copy = self._downloaded(sha256, Path(folder))
            with copy.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        self._require_same(sha256, found)

    def _fetch(self, sha256: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = self._cache.put(self._downloaded(sha256, Path(folder)))
        self._require_same(sha256, found)

    def _downloaded(self, sha256: str, folder: Path) -> Path:
        target = folder / "blob"
        if not self._files.download(_name(sha256), target):
            raise StoreError(f"there is no blob {sha256!r} in {self._files}: the run is damaged or not yet so far")
        return target

    def _require_same(self, sha256: str, found: str) -> None:
        if found != sha256:
            raise StoreError(
                f"{self._files}/{_name(sha256)} is damaged: its content has the SHA-256 {found}; delete it and resume "
                "the run"
            )


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _file_system(url: str, shown: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{shown} needs fsspec, which is not installed: pip install 'edge-pruning-pipeline[shared]'"
        ) from error
    try:
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(f"{shown} needs a library that is not installed: {first_line(error)}") from error
    except ValueError as error:
        raise ConfigError(f"{shown} is no place of files that fsspec knows: {first_line(error)}") from error
    except Exception as error:  # each store's library raises its own
        raise StoreError(f"{shown} cannot be opened ({type(error).__name__}: {first_line(error)})") from error
    return files, str(root).rstrip("/")
