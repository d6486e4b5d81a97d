"""A run's SQLite file: JSON in four tables; each write is one transaction that is on the disk when it returns."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pipeline.errors import StoreError
from pipeline.regular_file import is_there
from pipeline.store.error_translation import explained
from pipeline.store.records import MOST_RECORD_CHARACTERS, Pairs, Table

NAME = "run.sqlite"
SCHEMA_VERSION = 1
"""Rises with every change that an older program could not read; kept in SQLite's own ``user_version``."""

_DURABLE = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
_SCHEMA = f"""
BEGIN;
CREATE TABLE facts (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trials (number INTEGER PRIMARY KEY, at TEXT NOT NULL, reward REAL, feasible INTEGER NOT NULL,
                     json TEXT NOT NULL);
CREATE TABLE measurements (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE artifacts (position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, json TEXT NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_KEY: dict[Table, str] = {"facts": "key", "measurements": "key", "artifacts": "id"}
_IN_ORDER = {
    "trials": "SELECT number, json FROM trials ORDER BY number",
    "artifacts": "SELECT id, json FROM artifacts ORDER BY position",
}
_PUT: dict[Table, str] = {
    "facts": "INSERT OR REPLACE INTO facts VALUES (?, ?)",
    "measurements": "INSERT OR REPLACE INTO measurements VALUES (?, ?)",
    "artifacts": "INSERT INTO artifacts (id, json) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET json = excluded.json",
}

_MOST_BYTES = 2**26
"""Of a row: raw samples of a measurement of 60 s take 10 MB where an inference takes 0.1 ms."""


class Database:
    """An open run.sqlite; may be used from several threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
        self._connection = connection
        self._path = path
        self._writable = writable

    @classmethod
    def create(cls, folder: Path) -> Database:
        """Make the file and its tables."""
        path = folder / NAME
        with explained(path):
            connection = _connect(path, "rwc", _DURABLE + _SCHEMA)
        return cls(connection, path, writable=True)

    @classmethod
    def open(cls, folder: Path, *, write: bool = False) -> Database:
        """Open the file; for reading, a run that is being written at this moment is as good as any.

        Raises:
            StoreError: it is missing, damaged, or of a newer schema.
        """
        path = folder / NAME
        if not is_there(path):
            raise StoreError(f"{folder} is damaged: it has no {NAME}; move it away")
        with explained(path):
            connection = _connect(path, "rw", _DURABLE) if write else _open_for_reading(path)
        database = cls(connection, path, writable=write)
        try:
            database._check_schema()
        except BaseException:
            database.close()
            raise
        return database

    @property
    def where(self) -> str:
        """The file's path."""
        return str(self._path)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a SELECT finds."""
        with explained(self._path):
            return self._connection.execute(query, values).fetchall()

    def text(self, table: Table, key: str) -> str | None:
        """Return one record, None where it is absent."""
        rows = self.rows(f"SELECT json FROM {table} WHERE {_KEY[table]} = ?", key)
        return rows[0][0] if rows else None

    def texts(self, table: Literal["trials", "artifacts"]) -> Pairs:
        """Return all: trials by number, artifacts in the order in which they were added."""
        return [(str(key), text) for key, text in self.rows(_IN_ORDER[table])]

    def keys(self, table: Table, beginning: str) -> list[str]:
        """Return the keys that begin so, sorted."""
        key = _KEY[table]
        rows = self.rows(
            f"SELECT {key} FROM {table} WHERE substr({key}, 1, ?) = ? ORDER BY {key}", len(beginning), beginning
        )
        return [key for (key,) in rows]

    def put(self, table: Table, key: str, text: str) -> None:
        """Store a record; when this returns, power may fail."""
        self._write(_PUT[table], key, text)

    def append_trial(self, number: int, *, at: str, reward: float | None, feasible: bool, text: str) -> bool:
        """Store a trial, unless one of that number is stored already; return whether it was stored."""
        if self.rows("SELECT 1 FROM trials WHERE number = ?", number):
            return False
        self._write("INSERT INTO trials VALUES (?, ?, ?, ?, ?)", number, at, reward, feasible, text)
        return True

    def remove(self, table: Table, key: str) -> None:
        """Remove a record, where there is one."""
        self._write(f"DELETE FROM {table} WHERE {_KEY[table]} = ?", key)

    def remove_all(self, table: Table, beginning: str) -> None:
        """Remove the records whose keys begin so."""
        self._write(f"DELETE FROM {table} WHERE substr({_KEY[table]}, 1, ?) = ?", len(beginning), beginning)

    def require_sound(self) -> None:
        """Read the file through, which takes a millisecond a megabyte.

        Raises:
            StoreError: it is damaged.
        """
        found = self.rows("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise StoreError(
                f"{self._path} is damaged ({found}); move its folder away, the other runs are not concerned"
            )

    def close(self) -> None:
        """Close the file."""
        with explained(self._path):
            self._connection.close()

    def _write(self, statement: str, *values: Any) -> None:
        if not self._writable:
            raise StoreError(f"{self._path} was opened for reading; open the run with write=True to change it")
        with explained(self._path):
            self._connection.execute(statement, values)

    def _check_schema(self) -> None:
        found = self.rows("PRAGMA user_version")[0][0]
        if found > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path} has schema {found}, written by a newer program; this one reads up to {SCHEMA_VERSION}:"
                " upgrade it"
            )
        if found < 1:
            raise StoreError(f"{self._path} is damaged: it holds no run; move its folder away")
        if long := self.rows("SELECT key FROM facts WHERE length(json) > ? LIMIT 1", MOST_RECORD_CHARACTERS):
            raise StoreError(
                f"{self._path} is damaged: its fact {long[0][0]!r} has more than {MOST_RECORD_CHARACTERS} characters; "
                "move its folder away"
            )


def _open_for_reading(path: Path) -> sqlite3.Connection:
    """Open without the right to write.

    A write-ahead log needs a shared-memory file beside it even to be read; in a folder that cannot be written, a run
    whose log was folded in (its writer closed it) is opened as immutable: https://www.sqlite.org/wal.html#readonly
    """
    log = path.with_name(f"{path.name}-wal")
    settled = not log.exists() or log.stat().st_size == 0
    if settled and not os.access(path.parent, os.W_OK):
        return _connect(path, "ro&immutable=1")
    return _connect(path, "ro")


def _connect(path: Path, mode: str, script: str = "") -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    # Autocommit: one statement, one transaction. SQLite itself serialises threads (sqlite3.threadsafety is 3).
    connection = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    try:
        connection.executescript(script)
    except BaseException:
        connection.close()
        raise
    return connection
