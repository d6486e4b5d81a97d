"""Working folder: a shared run's files that have names, on this machine; fetched when asked for, kept at the end."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import platformdirs

from pipeline import serialization
from pipeline.regular_file import is_folder, is_there, read_text
from pipeline.store.checkpoints import write_whole
from pipeline.store.error_translation import explained
from pipeline.store.open_run import BlobFiles
from pipeline.store.shared.shared_records import SharedRecords
from pipeline.store.shared.url import SharedUrl

_KNOWN = ".known.json"


def cache_of(url: SharedUrl) -> Path:
    """Return this machine's folder for a database of runs; it may be deleted while none of them is being written."""
    named = hashlib.sha256(url.shown.encode()).hexdigest()[:12]
    return platformdirs.user_cache_path("pipeline") / "shared" / named


def blob_cache() -> Path:
    """Return this machine's folder for blobs of all object stores: a blob's name says its content."""
    return platformdirs.user_cache_path("pipeline") / "shared" / "blobs"


class WorkingFolder:
    """The files of one run that lie on this machine."""

    def __init__(self, path: Path, records: SharedRecords, blobs: BlobFiles) -> None:
        self._path = path
        self._records = records
        self._blobs = blobs
        self._fetched = False

    def path(self) -> Path:
        """Return the folder, with every file as the store has it, unless it was changed here since.

        Raises:
            StoreError: it cannot be made, or a file cannot be had.
        """
        if not self._fetched:
            with explained(self._path):
                self._path.mkdir(parents=True, exist_ok=True)
            known = self._known()
            for name, sha256 in named_files(self._records.files()).items():
                if known.get(name) != sha256 or not is_there(self._path / name):
                    self._fetch(name, sha256)
                    known[name] = sha256
            self._note(known)
            self._fetched = True
        return self._path

    def keep(self) -> None:
        """Store the files that are new or have changed since the folder was asked for."""
        if not self._fetched:
            return
        stored, known = self._records.files(), self._known()
        for path in files_in(self._path):
            with explained(path), path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            if stored.get(path.name) != sha256:
                self._records.put_file(path.name, self._blobs.put(path))
            known[path.name] = sha256
        self._note(known)

    def _fetch(self, name: str, sha256: str) -> None:
        target = self._path / name
        source = self._blobs.path(sha256)
        partial = target.with_name(f".partial-{name}")
        with explained(target):
            shutil.copyfile(source, partial)
            partial.replace(target)

    def _known(self) -> dict[str, str]:
        """Return which version of each file in the store this machine's file is, or was made of."""
        try:
            found = serialization.from_text(read_text(self._path / _KNOWN))
        except (OSError, ValueError):  # none was noted, or half of it: all are fetched
            return {}
        return {str(name): str(sha256) for name, sha256 in found.items()} if isinstance(found, dict) else {}

    def _note(self, known: dict[str, str]) -> None:
        write_whole(self._path / _KNOWN, serialization.to_text(known).encode())


def named_files(files: dict[str, str]) -> dict[str, str]:
    """Return those that lie in the working folder; checkpoints are none, nor is what leads out of it.

    >>> named_files({"report.html": "3f", "checkpoints/base": "x", "../x": "3f", ".ssh": "3f"})
    {'report.html': '3f'}
    """
    return {name: held for name, held in files.items() if Path(name).name == name and not name.startswith(".")}


def files_in(folder: Path) -> list[Path]:
    """Return a folder's regular files, without what is hidden."""
    if not is_folder(folder):
        return []
    with explained(folder):
        return sorted(path for path in folder.iterdir() if is_there(path) and not path.name.startswith("."))
