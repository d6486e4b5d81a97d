"""Tables of runs in a database: those of a run's own SQLite file, each key beginning with the run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from pipeline.errors import StoreError

SCHEMA_VERSION = 1
"""Rises with every change that an older program could not read or write."""

_metadata = MetaData()


def _run() -> Column[str]:
    return Column("run", Text, ForeignKey("pipeline_runs.id"), primary_key=True)


SCHEMA = Table("pipeline_schema", _metadata, Column("version", Integer, primary_key=True, autoincrement=False))
RUNS = Table(
    "pipeline_runs", _metadata,
    Column("id", Text, primary_key=True),
    Column("holder", Text),
    Column("expires", Double),
)  # fmt: skip
"""With the lease of each: who writes the run, and until when, in seconds of the database's clock."""
FACTS = Table("pipeline_facts", _metadata, _run(), Column("key", Text, primary_key=True),
              Column("json", Text, nullable=False))  # fmt: skip
TRIALS = Table(
    "pipeline_trials", _metadata, _run(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("reward", Double),
    Column("feasible", Boolean, nullable=False),
    Column("json", Text, nullable=False),
)  # fmt: skip
MEASUREMENTS = Table("pipeline_measurements", _metadata, _run(), Column("key", Text, primary_key=True),
                     Column("json", Text, nullable=False))  # fmt: skip
ARTIFACTS = Table(
    "pipeline_artifacts", _metadata, _run(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
    Column("json", Text, nullable=False),
    UniqueConstraint("run", "key"),
)  # fmt: skip
FILES = Table("pipeline_files", _metadata, _run(), Column("key", Text, primary_key=True),
              Column("object", Text, nullable=False))  # fmt: skip
"""A file's name, and what holds its content: a blob's SHA-256, or a checkpoint's object."""


class now_s(FunctionElement[float]):  # noqa: N801 - a function of SQL
    """Seconds since 1970 by the database's own clock, which all hosts share."""

    inherit_cache = True
    type = Double()


@compiles(now_s, "postgresql")
def _of_postgresql(*_: Any, **__: Any) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::double precision"


@compiles(now_s, "sqlite")
def _of_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def has_tables(connection: Connection, where: str) -> bool:
    """Return whether runs were ever stored there.

    Raises:
        StoreError: by a newer program.
    """
    if not inspect(connection).has_table(SCHEMA.name):
        return False
    found = connection.execute(select(SCHEMA.c.version)).scalar()
    if found is not None and found > SCHEMA_VERSION:
        raise StoreError(
            f"{where} has schema {found}, written by a newer program; this one reads up to {SCHEMA_VERSION}: upgrade it"
        )
    return found is not None


def make_tables(connection: Connection) -> None:
    """Make the tables, in one transaction; of two hosts that do so at once, one raises an error of SQL."""
    _metadata.create_all(connection)
    connection.execute(insert(SCHEMA).values(version=SCHEMA_VERSION))
