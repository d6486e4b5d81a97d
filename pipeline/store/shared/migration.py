"""Migration: runs in folders copied into a database, each in one transaction, checked, and told; folders stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Table, func, insert, select

from pipeline.errors import StoreError
from pipeline.regular_file import WEIGHTS_BYTES, is_there, read_bytes
from pipeline.store import checkpoints, lock
from pipeline.store.database import NAME, Database
from pipeline.store.error_translation import explained
from pipeline.store.facts import STARTED
from pipeline.store.records import fact_of, read_fact
from pipeline.store.shared.link import Link
from pipeline.store.shared.object_files import ObjectFiles
from pipeline.store.shared.schema import ARTIFACTS, FACTS, FILES, MEASUREMENTS, RUNS, TRIALS
from pipeline.store.shared.shared_runs import SharedRuns, checkpoint_object
from pipeline.store.shared.working_folder import files_in

_QUERIES: dict[str, tuple[Table, str]] = {
    "facts": (FACTS, "SELECT key, json FROM facts"),
    "trials": (TRIALS, "SELECT number, at, reward, feasible, json FROM trials"),
    "measurements": (MEASUREMENTS, "SELECT key, json FROM measurements"),
    "artifacts": (ARTIFACTS, "SELECT position, id, json FROM artifacts"),
}
_COLUMNS = {
    "facts": ("key", "json"),
    "trials": ("number", "at", "reward", "feasible", "json"),
    "measurements": ("key", "json"),
    "artifacts": ("position", "key", "json"),
}
_OWN = (NAME, f"{NAME}-wal", f"{NAME}-shm", "lock")
"""Files of the folder kind itself."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What became of one run."""

    id: str
    outcome: Literal["copied", "there already", "left out"]
    trials: int = 0
    measurements: int = 0
    artifacts: int = 0
    blobs: int = 0
    """Files by their content, each read through where it was copied to."""
    files: int = 0
    """With names: report, sample, checkpoints."""
    why: str = ""
    """It was left out."""


def migrate(source: Path, target: SharedRuns) -> Iterator[Migrated]:
    """Copy every run of a folder that is not there yet; yield each as soon as it is whole.

    Whatever ends this, runs are there whole or not at all, and the same call goes on with the rest.

    Raises:
        StoreError: the database or the place of its files cannot be used.
    """
    target.try_out()
    link = Link(target.url)
    try:
        for folder in _folders(source):
            try:
                yield _migrated(folder, link, target.files())
            except _LeftOutError as reason:
                yield Migrated(id=folder.name, outcome="left out", why=str(reason))
    finally:
        link.close()


class _LeftOutError(StoreError):
    """This run cannot be copied; others can."""


def _migrated(folder: Path, link: Link, files: ObjectFiles) -> Migrated:
    if lock.is_written(folder):
        raise _LeftOutError("it is being written; migrate again when that has ended")
    try:
        tables, started = _tables_of(folder)
    except StoreError as error:
        raise _LeftOutError(str(error)) from error
    if _is_there(link, folder.name, started):
        return Migrated(id=folder.name, outcome="there already")
    blobs = [_copied(path, files) for path in sorted((folder / "blobs").glob("??/*")) if is_there(path)]
    tables["files"] = [
        *({"key": path.name, "object": files.blobs.put(path)} for path in files_in(folder) if path.name not in _OWN),
        *(_checkpoint(path, folder.name, files) for path in files_in(folder / checkpoints.FOLDER)),
    ]
    link.transact(lambda connection: _insert(connection, folder.name, tables))
    return Migrated(
        id=folder.name, outcome="copied", trials=len(tables["trials"]), measurements=len(tables["measurements"]),
        artifacts=len(tables["artifacts"]), blobs=len(blobs), files=len(tables["files"]),
    )  # fmt: skip


def _folders(source: Path) -> list[Path]:
    with explained(source):
        return sorted(folder for folder in source.iterdir() if is_there(folder / NAME) and folder.name[0] != ".")


def _tables_of(folder: Path) -> tuple[dict[str, Rows], str | None]:
    """Return all rows of a run, as of one moment, and when it began."""
    database = Database.open(folder)
    try:
        database.require_sound()
        started = fact_of(database, STARTED)
        database.rows("BEGIN")  # until the file is closed: a writer that begins meanwhile changes nothing for us
        found = {
            name: [dict(zip(_COLUMNS[name], row, strict=True)) for row in database.rows(query)]
            for name, (_, query) in _QUERIES.items()
        }
    finally:
        database.close()
    if not all(isinstance(row["json"], str) for rows in found.values() for row in rows):
        raise StoreError(f"{folder / NAME} is damaged: a record is no text; move its folder away")
    for row in found["trials"]:
        row["feasible"] = bool(row["feasible"])
    return found, started


def _is_there(link: Link, name: str, started: str | None) -> bool:
    """Return whether this very run is in the database.

    Raises:
        _LeftOutError: another one has its name.
    """
    query = select(RUNS.c.id, FACTS.c.json).outerjoin(FACTS, (FACTS.c.run == RUNS.c.id) & (FACTS.c.key == STARTED.key))
    row = link.read(lambda connection: connection.execute(query.where(RUNS.c.id == name)).first())
    if row is not None and read_fact(STARTED, row[1], f"run {name} in {link.url}") != started:
        raise _LeftOutError(f"another run of the name {name} is in {link.url}; rename the folder, and migrate again")
    return row is not None


def _copied(path: Path, files: ObjectFiles) -> str:
    """Copy a blob, and read the copy through."""
    sha256 = files.blobs.put(path)
    if sha256 != path.name:
        raise _LeftOutError(f"{path} is damaged: its content has the SHA-256 {sha256}")
    files.blobs.verify(sha256)
    return sha256


def _checkpoint(path: Path, run: str, files: ObjectFiles) -> dict[str, str]:
    with explained(path):
        data = read_bytes(path, WEIGHTS_BYTES)
    key, name = checkpoint_object(run, path.stem, data)
    files.write(name, data)
    return {"key": key, "object": name}


def _insert(connection: Connection, name: str, tables: dict[str, Rows]) -> None:
    """Insert a run whole, unless it was inserted by this call before the connection was lost; count what is there."""
    if connection.execute(select(RUNS.c.id).where(RUNS.c.id == name)).first() is None:
        connection.execute(insert(RUNS).values(id=name))
        for table, rows in _targets(tables):
            if rows:
                connection.execute(insert(table), [{"run": name, **row} for row in rows])
    for table, rows in _targets(tables):
        query = select(func.count()).select_from(table).where(table.c.run == name)
        found = connection.execute(query).scalar()
        if found != len(rows):
            raise StoreError(f"run {name}: {table.name} has {found} rows of {len(rows)}; it was not copied")


def _targets(tables: dict[str, Rows]) -> Iterable[tuple[Table, Rows]]:
    return [*((table, tables[name]) for name, (table, _) in _QUERIES.items()), (FILES, tables["files"])]
