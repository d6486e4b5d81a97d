"""Run store: appended to while a run goes on, readable at any time, resumed after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline import serialization
from pipeline.errors import StoreError
from pipeline.pareto import device_costs, non_dominated
from pipeline.records import Artifact, Measurement, Trial
from pipeline.store import runs
from pipeline.store.facts import FINISHED_AT, STARTED, STATUS, Fact
from pipeline.store.open_run import Checkpoint, OpenRun
from pipeline.store.place import RunsRoot, place_of
from pipeline.store.records import fact_of, record_from

T = TypeVar("T")

# Inside the class ``list`` is the method of that name.
_Runs = list[runs.RunSummary]
_Trials = list[Trial]
_Artifacts = list[Artifact]
_Names = list[str]


class Store:
    """A run; ``create`` and ``open(..., write=True)`` are the one writer, ``open`` a reader."""

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self._records = run.records

    # ------------------------------------------------------------ open and close

    @classmethod
    def create(cls, root: RunsRoot, *, label: str, facts: Mapping[Fact[Any], object] | None = None) -> Store:
        """Begin a run under ``root``; whoever sees it sees its ``facts``, too.

        Raises:
            StoreError: the place of the runs cannot be written, or there is no room.
        """
        known: dict[Fact[Any], object] = {STARTED: _now(), STATUS: runs.RUNNING, **(facts or {})}
        return cls(place_of(root).create(label, {fact.key: _text_of(fact, value) for fact, value in known.items()}))

    @classmethod
    def open(cls, root: RunsRoot, run_id: str, *, write: bool = False) -> Store:
        """Open a run by its id, a prefix that no other run shares, or ``latest``; ``write`` to go on with it.

        A run that failed or was interrupted is running from now on; a finished one stays finished.

        Raises:
            RunNotFoundError: there is no such run.
            StoreError: it is damaged, of a newer schema, or (to write) another process is writing it.
        """
        store = cls(place_of(root).open(run_id, write=write))
        if write:
            try:
                store._resume()
            except BaseException:
                store.close()
                raise
        return store

    @staticmethod
    def list(root: RunsRoot) -> _Runs:
        """Return what is known of every run under ``root``, the newest last; a damaged one hides no other."""
        return place_of(root).summaries()

    def close(self) -> None:
        """Close the run and let another process write; a run not finished reads as interrupted from now on."""
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ facts

    @property
    def id(self) -> str:
        """The run's name."""
        return self._run.id

    @property
    def path(self) -> Path:
        """The run's folder; of runs in a database, one of this machine with the run's files that have names."""
        return self._run.folder

    @property
    def status(self) -> str:
        """``running``, ``interrupted``, or how the run ended."""
        return runs.status_of(self.get(STATUS), self._run.is_written)

    def finish(self, status: str = runs.FINISHED) -> None:
        """Say how and when the run ended."""
        self.set(FINISHED_AT, _now())
        self.set(STATUS, status)

    def set(self, fact: Fact[T], value: T) -> None:
        """Store a fact; replaces an older one.

        Raises:
            StoreError: JSON cannot say it; nan and infinity are such.
        """
        self._records.put("facts", fact.key, _text_of(fact, value))

    def get(self, fact: Fact[T]) -> T | None:
        """Return a fact; None where it is absent.

        Raises:
            StoreError: what stands there is no such fact.
        """
        return fact_of(self._records, fact)

    def required(self, fact: Fact[T]) -> T:
        """Return a fact that a run which has come so far has; raise StoreError where it is missing."""
        value = self.get(fact)
        if value is None:
            raise StoreError(f"run {self.id} is damaged: its fact {fact.key!r} is missing; move its folder away")
        return value

    # ------------------------------------------------------------ trials and measurements

    def append(self, trial: Trial) -> None:
        """Store one more trial; it is on the disk when this returns.

        Raises:
            StoreError: a trial of that index is stored already, a figure is no number, or there is no room.
        """
        text = _text(trial, f"trial {trial.index}")
        if not self._records.append_trial(
            trial.index, at=_now(), reward=trial.reward, feasible=trial.feasible, text=text
        ):
            raise StoreError(f"trial {trial.index} of run {self.id} is stored already; go on with a higher index")

    def trials(self) -> _Trials:
        """Return every trial, by index."""
        return [self._record(Trial, text, f"trial {number}") for number, text in self._records.texts("trials")]

    def remember(self, key: str, measurement: Measurement) -> None:
        """Store what was measured of the plan with these channel counts, as soon as it arrives."""
        self._records.put("measurements", key, _text(measurement, f"measurement of {key}"))

    def recall(self, key: str) -> Measurement | None:
        """Return what was measured of the plan with these channel counts, None where nothing was."""
        text = self._records.text("measurements", key)
        return None if text is None else self._record(Measurement, text, f"measurement of {key}")

    def measured(self, beginning: str) -> _Names:
        """Return the keys of measurements that begin so."""
        return self._records.keys("measurements", beginning)

    def forget(self, beginning: str) -> None:
        """Remove the measurements whose keys begin so."""
        self._records.remove_all("measurements", beginning)

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
        return self._run.blobs.put(data)

    def blob(self, sha256: str) -> Path:
        """Return where a blob lies; raise StoreError where there is none. Its content is not checked."""
        return self._run.blobs.path(sha256)

    def verify_blob(self, sha256: str) -> None:
        """Read a blob through; raise StoreError where its content is not what its name says."""
        self._run.blobs.verify(sha256)

    def checkpoint(self, name: str) -> Checkpoint:
        """Return where the training of that name notes how far it has come."""
        return self._run.checkpoint(name)

    def add_artifact(self, artifact: Artifact) -> None:
        """Store a network that is ready to deploy; replaces the one of the same id."""
        self._records.put("artifacts", artifact.id, _text(artifact, f"artifact {artifact.id}"))

    def artifacts(self) -> _Artifacts:
        """Return the networks that are ready to deploy, in the order in which they were added."""
        return [self._record(Artifact, text, f"artifact {name}") for name, text in self._records.texts("artifacts")]

    # ------------------------------------------------------------ helpers

    def _resume(self) -> None:
        self._run.sweep()
        if self.get(STATUS) != runs.FINISHED:
            self.set(STATUS, runs.RUNNING)
            self._records.remove("facts", FINISHED_AT.key)

    def _record(self, kind: type[T], text: str, what: str) -> T:
        try:
            return serialization.load(kind, record_from(text))
        except ValueError as error:
            raise StoreError(
                f"run {self.id} is damaged: its {what} cannot be read ({serialization.problem(error)})"
            ) from error


def _text_of(fact: Fact[T], value: T) -> str:
    return _text(value, f"fact {fact.key!r}", fact.plain)


def _text(value: T, what: str, plain: Callable[[T], object] = serialization.dump) -> str:
    try:
        return serialization.to_text(plain(value))
    except ValueError as error:
        raise StoreError(f"the {what} cannot be stored: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _now() -> str:
    return datetime.now(UTC).isoformat()
