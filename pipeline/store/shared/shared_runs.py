"""Runs in a database: hosts that see it begin, list, open and resume them; one at a time writes each."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, case, func, insert, select
from sqlalchemy.exc import IntegrityError

from pipeline.errors import StoreError
from pipeline.store import runs
from pipeline.store.facts import CONFIG, DEVICE, FINISHED_AT, SECONDS, STARTED, STATUS, Fact
from pipeline.store.open_run import BlobFiles
from pipeline.store.records import read_fact
from pipeline.store.shared import lease
from pipeline.store.shared.link import Link
from pipeline.store.shared.object_files import ObjectFiles, open_files
from pipeline.store.shared.schema import FACTS, RUNS, TRIALS
from pipeline.store.shared.shared_records import SharedRecords
from pipeline.store.shared.url import SharedUrl
from pipeline.store.shared.working_folder import WorkingFolder, blob_cache, cache_of

_LISTED: tuple[Fact[Any], ...] = (CONFIG, DEVICE, STARTED, STATUS, FINISHED_AT, SECONDS)
"""What `runs list` says of a run."""
_CHECKPOINTS = "checkpoints"
_MOST_AT_ONCE = 100
"""Runs that may begin in the same second with the same label."""

_log = logging.getLogger(__name__)


class SharedRun:
    """A run in a database that is open; see ``store.open_run.OpenRun``."""

    def __init__(self, link: Link, name: str, files: ObjectFiles, held: lease.Lease | None) -> None:
        self.id = name
        self.records = SharedRecords(link, name, held)
        self._link = link
        self._files = files
        self._lease = held
        self._folder = WorkingFolder(cache_of(link.url) / name, self.records, files.blobs)

    @property
    def blobs(self) -> BlobFiles:
        """Blobs of all runs that share the store."""
        return self._files.blobs

    @property
    def folder(self) -> Path:
        """This machine's working folder of the run."""
        return self._folder.path()

    def is_written(self) -> bool:
        """Say whether a process of any host has a lease that has not run out."""
        query = select(lease.is_held()).where(RUNS.c.id == self.id)
        return bool(self._link.read(lambda connection: connection.execute(query).scalar()))

    def checkpoint(self, name: str) -> SharedCheckpoint:
        """Return where the training of that name notes how far it has come."""
        return SharedCheckpoint(self.records, self._files, self.id, name)

    def sweep(self) -> None:
        """Remove what a killed writer left half written long ago."""
        self._files.sweep()

    def close(self) -> None:
        """Keep the working folder's files, give the lease back, and disconnect."""
        held, self._lease = self._lease, None
        try:
            if held is not None:
                self._release(held)
        finally:
            self._link.close()

    def _release(self, held: lease.Lease) -> None:
        """End the writing; a run that cannot be reached any more is left to its lease, and that is said."""
        try:
            if not held.is_lost:
                self._folder.keep()
        except StoreError as error:
            _log.warning("run %s: its report and other files stay on this machine: %s", self.id, error)
        try:
            held.release()
        except StoreError as error:
            seconds = self._link.url.lease_s
            _log.warning(
                "run %s can be written by others once its lease of %.0f s is over: %s", self.id, seconds, error
            )


class SharedCheckpoint:
    """One training's last state, as an object of its own; which one counts stands in the database.

    A writer that lost its lease cannot replace what another one has written since.
    """

    def __init__(self, records: SharedRecords, files: ObjectFiles, run: str, name: str) -> None:
        self._records = records
        self._files = files
        self._run = run
        self._name = name
        self._key = _checkpoint_key(name)

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was."""
        held_by = self._held_by()
        return None if held_by is None else self._files.read(held_by)

    def write(self, data: bytes) -> None:
        """Replace what is there.

        Raises:
            StoreError: it cannot be stored, or the lease was lost.
        """
        before = self._held_by()
        _, new = checkpoint_object(self._run, self._name, data)
        self._files.write(new, data)
        self._records.put_file(self._key, new)
        if before is not None and before != new:
            self._files.remove(before)

    def remove(self) -> None:
        """Leave nothing there."""
        held_by = self._held_by()
        if held_by is not None:
            self._records.remove_file(self._key)
            self._files.remove(held_by)

    def _held_by(self) -> str | None:
        """Return the object that counts; raise StoreError where what stands there is the name of no checkpoint."""
        found = self._records.files().get(self._key)
        if found is not None and not re.fullmatch(rf"{_CHECKPOINTS}/{re.escape(self._run)}/[^/]+\.safetensors", found):
            raise StoreError(
                f"{self._records.where} is damaged: {found!r} is no checkpoint of its training {self._name}"
            )
        return found


def checkpoint_object(run: str, name: str, data: bytes) -> tuple[str, str]:
    """Return the key of a training's checkpoint among a run's files, and the name of the object with this content."""
    return _checkpoint_key(name), f"{_CHECKPOINTS}/{run}/{name}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"


def _checkpoint_key(name: str) -> str:
    return f"{_CHECKPOINTS}/{name}"


class SharedRuns:
    """All runs of a database; see ``store.open_run.Place``."""

    def __init__(self, url: SharedUrl) -> None:
        self.url = url

    def create(self, label: str, facts: Mapping[str, str]) -> SharedRun:
        """Begin a run, in one transaction with its facts, and with its lease taken.

        Raises:
            StoreError: the database or the place of the files cannot be written.
        """
        with ExitStack() as undo:
            link = self._linked(undo)
            files = self.files()
            link.require_tables()
            holder = lease.new_holder()
            name = _begun(link, label, lambda c, name: _insert(c, name, facts, lease.held_by(holder, self.url.lease_s)),
                          holder)  # fmt: skip
            run = SharedRun(link, name, files, lease.Lease(link, name, holder))
            undo.pop_all()
        return run

    def open(self, wanted: str, *, write: bool) -> SharedRun:
        """Open the run that an id, a prefix of one only, or ``latest`` names.

        Raises:
            RunNotFoundError: there is none, or several.
            RunInUseError: another process is writing it.
        """
        with ExitStack() as undo:
            link = self._linked(undo)
            names = _names(link) if link.has_tables() else []
            name = runs.match(names, wanted, str(self.url), lambda: runs.latest(_summaries(link), self._checked))
            files = self.files()
            SharedRecords(link, name, None).require_sound()
            run = SharedRun(link, name, files, lease.take(link, name) if write else None)
            undo.pop_all()
        return run

    def summaries(self) -> list[runs.RunSummary]:
        """Return what is known of every run, by one query; a damaged one hides no other."""
        with ExitStack() as stack:
            link = self._linked(stack)
            return _summaries(link) if link.has_tables() else []

    def try_out(self) -> None:
        """Connect, make the tables, and write where the files go.

        Raises:
            StoreError: one of these is not possible.
        """
        with ExitStack() as stack:
            self._linked(stack).require_tables()
        self.files().try_out()

    def files(self) -> ObjectFiles:
        """Return the place of blobs and checkpoints."""
        return open_files(self.url.blobs, blob_cache())

    def _linked(self, undo: ExitStack) -> Link:
        link = Link(self.url)
        undo.callback(link.close)
        return link

    def _checked(self, run: runs.RunSummary) -> runs.RunSummary:
        """Return a run's summary with its problem, where it has one."""
        if run.status == runs.DAMAGED or run.settings:
            return run
        return replace(run, problem=f"run {run.id} in {self.url} ended before its settings were stored")


def _begun(link: Link, label: str, insert_run: Callable[[Connection, str], None], holder: str) -> str:
    """Insert a run under the first name that is free; return the name.

    Where the connection was lost meanwhile, a run of this holder is the one that was being inserted.
    """

    def begin(connection: Connection) -> str:
        for name in runs.new_names(label):
            row = connection.execute(select(RUNS.c.holder).where(RUNS.c.id == name)).first()
            if row is None:
                insert_run(connection, name)
            if row is None or row[0] == holder:
                return name
        raise AssertionError("names have no end")

    for _ in range(_MOST_AT_ONCE):
        try:
            return link.transact(begin)
        except StoreError as error:
            if not isinstance(error.__cause__, IntegrityError):  # another host has just taken the name
                raise
    raise StoreError(f"{link.url}: too many runs begin at once; try again")


def _insert(connection: Connection, name: str, facts: Mapping[str, str], columns: Mapping[str, Any]) -> None:
    connection.execute(insert(RUNS).values(id=name, **columns))
    connection.execute(insert(FACTS), [{"run": name, "key": key, "json": text} for key, text in facts.items()])


def _names(link: Link) -> list[str]:
    return sorted(link.read(lambda connection: list(connection.execute(select(RUNS.c.id)).scalars())))


def _summaries(link: Link) -> list[runs.RunSummary]:
    rows = link.read(lambda connection: list(connection.execute(_LIST).mappings()))
    return runs.by_time(_summary(dict(row), str(link.url)) for row in rows)


def _list_query() -> Any:
    """Return the query for all runs: facts turned into columns, trials counted where they lie."""
    facts = (
        select(FACTS.c.run, *(func.max(case((FACTS.c.key == one.key, FACTS.c.json))).label(one.key) for one in _LISTED))
        .where(FACTS.c.key.in_([one.key for one in _LISTED]))
        .group_by(FACTS.c.run)
        .subquery()
    )
    trials = (
        select(
            TRIALS.c.run,
            func.count().label("trials"),
            func.max(case((TRIALS.c.feasible, TRIALS.c.reward))).label("best"),
            func.max(TRIALS.c.at).label("last"),
        )
        .group_by(TRIALS.c.run)
        .subquery()
    )
    return (
        select(RUNS.c.id, lease.is_held().label("is_held"), facts, trials.c.trials, trials.c.best, trials.c.last)
        .outerjoin(facts, facts.c.run == RUNS.c.id)
        .outerjoin(trials, trials.c.run == RUNS.c.id)
    )


_LIST = _list_query()


def _summary(row: Mapping[str, Any], where: str) -> runs.RunSummary:
    name = row["id"]

    def fact(one: Fact[Any]) -> Any:
        return read_fact(one, row[one.key], f"run {name} in {where}")

    try:
        return runs.summary_of(
            name, fact, lambda: bool(row["is_held"]), trials=row["trials"] or 0, best=row["best"], last=row["last"]
        )
    except StoreError as error:
        return runs.RunSummary(id=name, status=runs.DAMAGED, problem=str(error))
