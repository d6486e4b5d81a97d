"""Runs in folders: each its own SQLite file, its own blobs, its own lock; the default."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.store import checkpoints, runs, writable
from pipeline.store.blobs import Blobs
from pipeline.store.database import Database
from pipeline.store.lock import WriterLock, is_written


@dataclass(frozen=True, slots=True)
class FolderRun:
    """A run's folder, its file open."""

    folder: Path
    records: Database
    lock: WriterLock | None
    """None: it was opened to read."""

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def blobs(self) -> Blobs:
        """Files in the run's folder."""
        return Blobs(self.folder / "blobs")

    def is_written(self) -> bool:
        """Say whether a process holds the lock."""
        return is_written(self.folder)

    def checkpoint(self, name: str) -> checkpoints.CheckpointFile:
        """Return the file of the training of that name."""
        return checkpoints.CheckpointFile(self.folder / checkpoints.FOLDER, name)

    def sweep(self) -> None:
        """Remove what a killed writer left half written."""
        self.blobs.sweep()
        checkpoints.sweep(self.folder / checkpoints.FOLDER)

    def close(self) -> None:
        """Close the file, then free the lock."""
        self.records.close()
        if self.lock is not None:
            self.lock.release()


@dataclass(frozen=True, slots=True)
class FolderRuns:
    """A folder of runs."""

    root: Path

    def create(self, label: str, facts: Mapping[str, str]) -> FolderRun:
        """Begin a run; whoever sees its folder sees its facts, too."""
        with ExitStack() as undo:
            new = runs.new_folder(self.root)
            undo.callback(shutil.rmtree, new, ignore_errors=True)
            lock = WriterLock(new)
            undo.callback(lock.release)
            begun = Database.create(new)
            try:
                for key, text in facts.items():
                    begun.put("facts", key, text)
            finally:
                begun.close()
            folder = runs.published(new, label)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            run = FolderRun(folder, Database.open(folder, write=True), lock)
            undo.pop_all()
        return run

    def open(self, wanted: str, *, write: bool) -> FolderRun:
        """Open the run that an id, a prefix of one only, or ``latest`` names."""
        folder = runs.find_folder(self.root, wanted)
        if not write:
            return FolderRun(folder, Database.open(folder), None)
        with ExitStack() as undo:
            lock = WriterLock(folder)
            undo.callback(lock.release)
            database = Database.open(folder, write=True)
            undo.pop_all()
        return FolderRun(folder, database, lock)

    def summaries(self) -> list[runs.RunSummary]:
        """Return what is known of every run; a damaged one hides no other."""
        return runs.list_runs(self.root)

    def try_out(self) -> None:
        """Raise StoreError where the folder cannot be made or written, or has no room."""
        writable.try_out(self.root)
