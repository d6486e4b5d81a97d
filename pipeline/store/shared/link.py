"""Link to a database: each piece of work is one transaction, done again where the connection is lost."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from pipeline.errors import ConfigError, StoreError, first_line
from pipeline.store.error_translation import explain_sqlite
from pipeline.store.shared import schema
from pipeline.store.shared.url import SharedUrl

T = TypeVar("T")

PATIENCE_S = 60.0
"""So long is a lost connection tried again: a server that is restarted is back in seconds."""
_MAKING_S = 3.0
"""So long may another host take to make the tables."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_POSTGRESQL = {
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 30_000, "application_name": "pipeline",
}  # fmt: skip
"""libpq's, so that a link that is cut is noticed; what the URL says counts more:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""
_LOCK_S = 10
"""So long is a row waited for that another transaction has changed."""
_LOST = ("08", "57P", "40", "53300", "55P03")
"""SQLSTATEs, or their beginnings: connection, shutdown, rollback that may be repeated, too many clients, locked:
https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_log = logging.getLogger(__name__)


class Link:
    """An engine with a few connections; may be used from several threads."""

    def __init__(self, url: SharedUrl) -> None:
        """Prepare to connect; nothing is connected yet.

        Raises:
            ConfigError: SQLAlchemy cannot read the URL, or the database's driver is not installed.
        """
        self.url = url
        self._engine = _engine(url)
        self._was_connected = False
        self._closed = threading.Event()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` finds, in one transaction that changes nothing."""
        return self.transact(work)

    def transact(self, work: Callable[[Connection], T], *, patience_s: float | None = None) -> T:
        """Do ``work`` in one transaction, and return its result once that is committed.

        Where the connection is lost, all of it is done again, even if it was committed just before: ``work`` has to
        come to the same when it is done twice. A database that was never reached is not waited for.

        Raises:
            StoreError: the database cannot be reached, or refuses.
        """
        patience_s = PATIENCE_S if patience_s is None else patience_s
        until, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
        while True:
            if self._closed.is_set():
                raise StoreError(f"{self.url} cannot be used: the run was closed")
            try:
                with self._engine.begin() as connection:
                    self._was_connected = True
                    done = work(connection)
            except SQLAlchemyError as error:
                if not (self._was_connected and is_lost(error)) or time.monotonic() + pause_s > until:
                    raise StoreError(explain(error, self.url, patience_s if self._was_connected else 0.0)) from error
                _log.debug("%s: %s; tried again", self.url, first_line(error))
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return done

    def require_tables(self) -> None:
        """Make the tables where they are missing.

        Raises:
            StoreError: the database cannot be reached, does not allow it, or is of a newer schema.
        """
        until = time.monotonic() + _MAKING_S
        while not self.has_tables():
            try:
                with self._engine.begin() as connection:
                    schema.make_tables(connection)
            except SQLAlchemyError as error:  # another host may be making them: then they are there in a moment
                if getattr(error.orig if isinstance(error, DBAPIError) else None, "sqlstate", None) in _BY_STATE or (
                    time.monotonic() > until
                ):
                    raise StoreError(explain(error, self.url)) from error
                self._closed.wait(_FIRST_PAUSE_S)

    def has_tables(self) -> bool:
        """Return whether runs were ever stored there; raise StoreError where that was by a newer program."""
        return self.read(lambda connection: schema.has_tables(connection, str(self.url)))

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        self._engine.dispose()


def _engine(url: SharedUrl) -> Engine:
    try:
        parsed = make_url(url.database)
        if parsed.drivername == "sqlite":
            engine = create_engine(parsed, connect_args={"timeout": 10.0})
            event.listen(engine, "connect", _make_durable)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
            return engine
        own = {key: value for key, value in _POSTGRESQL.items() if key not in parsed.query}
        # Statements that the server keeps by name do not survive a pooler between: https://www.pgbouncer.org/faq.html
        engine = create_engine(parsed, pool_size=2, max_overflow=8, connect_args={**own, "prepare_threshold": None})
        event.listen(engine, "connect", partial(_limit_locks, url.lease_s))
        return engine
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"{url} is no URL of a database; write postgresql://USER@HOST/DATABASE") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{url} needs {error.name}, which is not installed: pip install 'edge-pruning-pipeline[shared]'"
        ) from error


def _limit_locks(lease_s: float, connection: Any, _: object) -> None:
    """Have the server end a transaction whose host is held up: its locks would keep others from a run that is free."""
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = {round(1000 * lease_s)}")
    connection.execute(f"SET lock_timeout = '{_LOCK_S}s'")
    connection.autocommit = False


def _make_durable(connection: Any, _: object) -> None:
    connection.isolation_level = None  # else Python begins transactions by itself, and not before all statements
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def is_lost(error: SQLAlchemyError) -> bool:
    """Return whether the connection is to blame, or another transaction: the same work may succeed in a moment."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _BUSY
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_LOST)


# ---------------------------------------------------------------- errors in words

_BY_STATE = {
    "42501": "its user lacks a right; the database's owner gives it: GRANT CREATE, USAGE ON SCHEMA public TO USER",
    "25006": "it is read-only; name the primary server, or give the user the right to write",
    "53100": "no room is left on its disk; make room, then resume the run",
    "53300": "it has too many clients; raise max_connections, or put a pooler before it",
}
"""SQLSTATE → what is wrong, and what to do."""
_BY_WORDS = (
    ("password authentication failed", "it refuses the user or the password; write it into ~/.pgpass, or into the URL"),
    ("no password supplied", "it wants a password; write it into ~/.pgpass, or into the URL"),
    ("no pg_hba.conf entry", "it does not let this user in from this host; its pg_hba.conf says who may"),
    ("role", "it has no such user; make one there: createuser NAME"),
    ("database", "it has no such database; make one there: createdb NAME"),
)
"""Words of libpq's, which gives no state before it is connected → the same. The last two are of `… does not exist`."""


def explain(error: SQLAlchemyError, url: SharedUrl, patience_s: float = 0.0) -> str:
    """Return in words what a database said, and what to do; never with a password."""
    origin = getattr(error, "orig", None)
    said = " ".join(str(origin or error).split())
    state = getattr(origin, "sqlstate", None)
    if isinstance(origin, sqlite3.Error):
        return explain_sqlite(origin, Path(make_url(url.database).database or ""))
    if state in _BY_STATE:
        return f"{url}: {_BY_STATE[state]} ({said})"
    missing = "does not exist" in said
    for words, advice in _BY_WORDS[: None if missing else -2]:
        if words in said:
            return f"{url}: {advice} ({said})"
    if is_lost(error):
        tried = f"; tried for {patience_s:.0f} s" if patience_s else ""
        return f"{url} cannot be reached ({said}){tried}; start it, or check host and port; then a run can be resumed"
    return f"{url} cannot be used: {said}"
