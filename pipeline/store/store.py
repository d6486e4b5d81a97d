"""Run store: appended to while a run goes on, readable at any time, resumed after a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline import serialization
from pipeline.errors import StoreError
from pipeline.pareto import device_costs, non_dominated
from pipeline.records import Artifact, Measurement, Trial
from pipeline.store import checkpoints, runs
from pipeline.store.blobs import Blobs
from pipeline.store.database import Database, record_from
from pipeline.store.facts import FINISHED_AT, STARTED, STATUS, Fact
from pipeline.store.lock import WriterLock

T = TypeVar("T")

# Inside the class ``list`` is the method of that name.
_Runs = list[runs.RunSummary]
_Trials = list[Trial]
_Artifacts = list[Artifact]
_Names = list[str]


class Store:
    """A run's folder; ``create`` and ``open(..., write=True)`` are the one writer, ``open`` a reader."""

    def __init__(self, folder: Path, database: Database, lock: WriterLock | None) -> None:
        self._folder = folder
        self._database = database
        self._lock = lock
        self._blobs = Blobs(folder / "blobs")

    # ------------------------------------------------------------ open and close

    @classmethod
    def create(cls, root: Path, *, label: str, facts: Mapping[Fact[Any], object] | None = None) -> Store:
        """Begin a run under ``root``; whoever sees its folder sees its ``facts``, too.

        Raises:
            StoreError: the folder cannot be written, or there is no room.
        """
        with ExitStack() as undo:
            new = runs.new_folder(root)
            undo.callback(shutil.rmtree, new, ignore_errors=True)
            lock = WriterLock(new)
            undo.callback(lock.release)
            with cls(new, Database.create(new), None) as begun:
                for fact, value in {STARTED: _now(), STATUS: runs.RUNNING, **(facts or {})}.items():
                    begun.set(fact, value)
            folder = runs.published(new, label)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            store = cls(folder, Database.open(folder, write=True), lock)
            undo.pop_all()
        return store

    @classmethod
    def open(cls, root: Path, run_id: str, *, write: bool = False) -> Store:
        """Open a run by its id, a prefix that no other run shares, or ``latest``; ``write`` to go on with it.

        A run that failed or was interrupted is running from now on; a finished one stays finished.

        Raises:
            RunNotFoundError: there is no such run.
            StoreError: it is damaged, of a newer schema, or (to write) another process is writing it.
        """
        folder = runs.find_folder(root, run_id)
        if not write:
            return cls(folder, Database.open(folder), None)
        with ExitStack() as undo:
            lock = WriterLock(folder)
            undo.callback(lock.release)
            database = Database.open(folder, write=True)
            undo.callback(database.close)
            store = cls(folder, database, lock)
            store._resume()
            undo.pop_all()
        return store

    @staticmethod
    def list(root: Path) -> _Runs:
        """Return what is known of every run under ``root``, the newest last; a damaged one hides no other."""
        return runs.list_runs(root)

    def close(self) -> None:
        """Close the files and let another process write; a run not finished reads as interrupted from now on."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ facts

    @property
    def id(self) -> str:
        """The run's name, which is its folder's."""
        return self._folder.name

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder

    @property
    def status(self) -> str:
        """``running``, ``interrupted``, or how the run ended."""
        return runs.read_status(self._database, self._folder)

    def finish(self, status: str = runs.FINISHED) -> None:
        """Say how and when the run ended."""
        self.set(FINISHED_AT, _now())
        self.set(STATUS, status)

    def set(self, fact: Fact[T], value: T) -> None:
        """Store a fact; replaces an older one.

        Raises:
            StoreError: JSON cannot say it; nan and infinity are such.
        """
        text = _text(value, f"fact {fact.key!r}", fact.plain)
        self._database.write("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact.key, text)

    def get(self, fact: Fact[T]) -> T | None:
        """Return a fact; None where it is absent.

        Raises:
            StoreError: what stands there is no such fact.
        """
        return self._database.fact(fact)

    def required(self, fact: Fact[T]) -> T:
        """Return a fact that a run which has come so far has; raise StoreError where it is missing."""
        value = self._database.fact(fact)
        if value is None:
            raise StoreError(f"run {self.id} is damaged: its fact {fact.key!r} is missing; move its folder away")
        return value

    # ------------------------------------------------------------ trials and measurements

    def append(self, trial: Trial) -> None:
        """Store one more trial; it is on the disk when this returns.

        Raises:
            StoreError: a trial of that index is stored already, a figure is no number, or there is no room.
        """
        if self._database.rows("SELECT 1 FROM trials WHERE number = ?", trial.index):
            raise StoreError(f"trial {trial.index} of run {self.id} is stored already; go on with a higher index")
        self._database.write(
            "INSERT INTO trials VALUES (?, ?, ?, ?, ?)",
            trial.index,
            _now(),
            trial.reward,
            trial.feasible,
            _text(trial, f"trial {trial.index}"),
        )

    def trials(self) -> _Trials:
        """Return every trial, by index."""
        rows = self._database.rows("SELECT number, json FROM trials ORDER BY number")
        return [self._record(Trial, text, f"trial {number}") for number, text in rows]

    def remember(self, key: str, measurement: Measurement) -> None:
        """Store what was measured of the plan with these channel counts, as soon as it arrives."""
        text = _text(measurement, f"measurement of {key}")
        self._database.write("INSERT OR REPLACE INTO measurements VALUES (?, ?)", key, text)

    def recall(self, key: str) -> Measurement | None:
        """Return what was measured of the plan with these channel counts, None where nothing was."""
        rows = self._database.rows("SELECT json FROM measurements WHERE key = ?", key)
        return self._record(Measurement, rows[0][0], f"measurement of {key}") if rows else None

    def measured(self, beginning: str) -> _Names:
        """Return the keys of measurements that begin so."""
        rows = self._database.rows(
            "SELECT key FROM measurements WHERE substr(key, 1, ?) = ? ORDER BY key", len(beginning), beginning
        )
        return [key for (key,) in rows]

    def forget(self, beginning: str) -> None:
        """Remove the measurements whose keys begin so."""
        self._database.write("DELETE FROM measurements WHERE substr(key, 1, ?) = ?", len(beginning), beginning)

    def pareto(self) -> _Trials:
        """Return the measured trials that none beats in accuracy, latency and (where measured) energy at once."""
        measured = [
            (trial, trial.candidate.accuracy, trial.measurement)
            for trial in self.trials()
            if trial.failure is None and trial.candidate is not None and trial.measurement is not None
        ]
        costs = device_costs([accuracy for _, accuracy, _ in measured], [m for _, _, m in measured])
        return [measured[position][0] for position in non_dominated(costs)]

    def best(self) -> Trial | None:
        """Return the feasible trial of the highest reward, the earliest of equals; None where none is feasible."""
        feasible = [t for t in self.trials() if t.feasible and t.failure is None and t.reward is not None]
        return max(feasible, key=lambda t: t.reward or 0.0, default=None)

    # ------------------------------------------------------------ files and artifacts

    def put_blob(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file; return their SHA-256."""
        return self._blobs.put(data)

    def blob(self, sha256: str) -> Path:
        """Return where a blob lies; raise StoreError where there is none. Its content is not checked."""
        return self._blobs.path(sha256)

    def verify_blob(self, sha256: str) -> None:
        """Read a blob through; raise StoreError where its content is not what its name says."""
        self._blobs.verify(sha256)

    def checkpoint(self, name: str) -> checkpoints.CheckpointFile:
        """Return where the training of that name notes how far it has come."""
        return checkpoints.CheckpointFile(self._folder / checkpoints.FOLDER, name)

    def add_artifact(self, artifact: Artifact) -> None:
        """Store a network that is ready to deploy; replaces the one of the same id."""
        self._database.write(
            "INSERT INTO artifacts (id, json) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET json = excluded.json",
            artifact.id,
            _text(artifact, f"artifact {artifact.id}"),
        )

    def artifacts(self) -> _Artifacts:
        """Return the networks that are ready to deploy, in the order in which they were added."""
        rows = self._database.rows("SELECT id, json FROM artifacts ORDER BY position")
        return [self._record(Artifact, text, f"artifact {name}") for name, text in rows]

    # ------------------------------------------------------------ helpers

    def _resume(self) -> None:
        self._blobs.sweep()
        checkpoints.sweep(self._folder / checkpoints.FOLDER)
        if self.get(STATUS) != runs.FINISHED:
            self.set(STATUS, runs.RUNNING)
            self._database.write("DELETE FROM facts WHERE key = ?", FINISHED_AT.key)

    def _record(self, kind: type[T], text: str, what: str) -> T:
        try:
            return serialization.load(kind, record_from(text))
        except ValueError as error:
            raise StoreError(
                f"run {self.id} is damaged: its {what} cannot be read ({serialization.problem(error)})"
            ) from error


def _text(value: T, what: str, plain: Callable[[T], object] = serialization.dump) -> str:
    try:
        return serialization.to_text(plain(value))
    except ValueError as error:
        raise StoreError(f"the {what} cannot be stored: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _now() -> str:
    return datetime.now(UTC).isoformat()
