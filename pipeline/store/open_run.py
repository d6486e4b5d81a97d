"""An open run and the place of runs: what a store needs of either, whether they are folders or rows of a database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pipeline.store.records import Records
from pipeline.store.runs import RunSummary


class Checkpoint(Protocol):
    """One training's last state; gone once the training's result is stored."""

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was."""

    def write(self, data: bytes) -> None:
        """Replace what is there."""

    def remove(self) -> None:
        """Leave nothing there."""


class BlobFiles(Protocol):
    """Files by the SHA-256 of their content."""

    def put(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file; return their SHA-256."""

    def path(self, sha256: str) -> Path:
        """Return where a blob lies on this machine; raise StoreError where there is none."""

    def verify(self, sha256: str) -> None:
        """Read a blob through; raise StoreError where its content is not what its name says."""


class OpenRun(Protocol):
    """A run that is open to read, or, with the writer's lock, to write."""

    @property
    def id(self) -> str:
        """The run's name."""

    @property
    def records(self) -> Records:
        """Facts, trials, measurements and artifacts."""

    @property
    def blobs(self) -> BlobFiles:
        """The run's files by their content."""

    @property
    def folder(self) -> Path:
        """A folder of this machine with the run's files that have names: its report, its sample."""

    def is_written(self) -> bool:
        """Say whether a process has the writer's lock."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return where the training of that name notes how far it has come."""

    def sweep(self) -> None:
        """Remove what a killed writer left half written."""

    def close(self) -> None:
        """Close the run, and free the writer's lock."""


class Place(Protocol):
    """Where runs are."""

    def create(self, label: str, facts: Mapping[str, str]) -> OpenRun:
        """Begin a run, open to write; whoever sees it sees its facts, too."""

    def open(self, wanted: str, *, write: bool) -> OpenRun:
        """Open the run that an id, a prefix of one only, or ``latest`` names."""

    def summaries(self) -> list[RunSummary]:
        """Return what is known of every run, the newest last."""

    def try_out(self) -> None:
        """Raise StoreError where a run could not be stored; leave nothing behind."""
