"""Records of a run in a database; every write checks, in its own transaction, that the run is still ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from pipeline.errors import StoreError
from pipeline.store.records import MOST_RECORD_CHARACTERS, Pairs
from pipeline.store.records import Table as TableName
from pipeline.store.shared.lease import Lease
from pipeline.store.shared.link import Link
from pipeline.store.shared.schema import ARTIFACTS, FACTS, FILES, MEASUREMENTS, TRIALS

T = TypeVar("T")

_TABLES: dict[str, Table] = {"facts": FACTS, "measurements": MEASUREMENTS, "artifacts": ARTIFACTS}


class SharedRecords:
    """The rows of one run; see ``store.records.Records``."""

    def __init__(self, link: Link, run: str, lease: Lease | None) -> None:
        self._link = link
        self._run = run
        self._lease = lease

    @property
    def where(self) -> str:
        """The run and its database."""
        return f"run {self._run} in {self._link.url}"

    def text(self, table: TableName, key: str) -> str | None:
        """Return one record, None where it is absent."""
        of = _TABLES[table]
        rows = self._rows(select(of.c.json).where(of.c.run == self._run, of.c.key == key))
        return rows[0][0] if rows else None

    def texts(self, table: Literal["trials", "artifacts"]) -> Pairs:
        """Return all: trials by number, artifacts in the order in which they were added."""
        of, key = (TRIALS, TRIALS.c.number) if table == "trials" else (ARTIFACTS, ARTIFACTS.c.key)
        order = of.c.number if table == "trials" else of.c.position
        query = select(key, of.c.json).where(of.c.run == self._run).order_by(order)
        return [(str(row[0]), row[1]) for row in self._rows(query)]

    def keys(self, table: TableName, beginning: str) -> list[str]:
        """Return the keys that begin so, sorted."""
        of = _TABLES[table]
        return sorted(row[0] for row in self._rows(select(of.c.key).where(*self._beginning(of, beginning))))

    def put(self, table: TableName, key: str, text: str) -> None:
        """Store a record; replaces the one of the same key, in its place."""
        of = _TABLES[table]
        self._write(lambda connection: _upsert(connection, of, self._run, key, {"json": text}))

    def append_trial(self, number: int, *, at: str, reward: float | None, feasible: bool, text: str) -> bool:
        """Store a trial, unless one of that number is stored already; return whether it was stored.

        Where the connection was lost while it was being stored, it may be there: with the very time and text.
        """
        mine = (TRIALS.c.run == self._run, TRIALS.c.number == number)
        row = {"run": self._run, "number": number, "at": at, "reward": reward, "feasible": feasible, "json": text}

        def append(connection: Connection) -> bool:
            there = connection.execute(select(TRIALS.c.at, TRIALS.c.json).where(*mine)).first()
            if there is None:
                connection.execute(insert(TRIALS).values(row))
            return there is None or tuple(there) == (at, text)

        return self._write(append)

    def remove(self, table: TableName, key: str) -> None:
        """Remove a record, where there is one."""
        of = _TABLES[table]
        self._write(lambda connection: connection.execute(delete(of).where(of.c.run == self._run, of.c.key == key)))

    def remove_all(self, table: TableName, beginning: str) -> None:
        """Remove the records whose keys begin so."""
        of = _TABLES[table]
        self._write(lambda connection: connection.execute(delete(of).where(*self._beginning(of, beginning))))

    def require_sound(self) -> None:
        """Raise StoreError where a fact is larger than any."""
        long = select(FACTS.c.key).where(FACTS.c.run == self._run, func.length(FACTS.c.json) > MOST_RECORD_CHARACTERS)
        if rows := self._rows(long.limit(1)):
            raise StoreError(
                f"{self.where} is damaged: its fact {rows[0][0]!r} has more than {MOST_RECORD_CHARACTERS} characters"
            )

    # ------------------------------------------------------------ files

    def files(self) -> dict[str, str]:
        """Return the run's files that have names: name → object that holds the content."""
        query = select(FILES.c.key, FILES.c.object).where(FILES.c.run == self._run)
        return {row[0]: row[1] for row in self._rows(query)}

    def put_file(self, name: str, held_by: str) -> None:
        """Say which object holds a file's content."""
        self._write(lambda connection: _upsert(connection, FILES, self._run, name, {"object": held_by}))

    def remove_file(self, name: str) -> None:
        """Remove a file, where there is one; its object stays."""
        mine = (FILES.c.run == self._run, FILES.c.key == name)
        self._write(lambda connection: connection.execute(delete(FILES).where(*mine)))

    # ------------------------------------------------------------ transactions

    def _rows(self, query: Any) -> list[Any]:
        return self._link.read(lambda connection: list(connection.execute(query)))

    def _write(self, work: Callable[[Connection], T]) -> T:
        lease = self._lease
        if lease is None:
            raise StoreError(f"{self.where} was opened for reading; open the run with write=True to change it")

        def fenced(connection: Connection) -> T:
            lease.hold(connection)
            return work(connection)

        return self._link.transact(fenced)

    def _beginning(self, of: Table, beginning: str) -> tuple[Any, Any]:
        return of.c.run == self._run, func.substr(of.c.key, 1, len(beginning)) == beginning


def _upsert(connection: Connection, of: Table, run: str, key: str, values: dict[str, Any]) -> None:
    """Update a row, or insert it; nobody else writes this run meanwhile, whose row the lease has locked."""
    if connection.execute(update(of).where(of.c.run == run, of.c.key == key).values(values)).rowcount:
        return
    if "position" in of.c:
        last = connection.execute(select(func.max(of.c.position)).where(of.c.run == run)).scalar()
        values = {**values, "position": 1 if last is None else last + 1}
    connection.execute(insert(of).values(run=run, key=key, **values))
