"""Lease: the right to write one run, for seconds, by the database's clock; who loses it writes nothing more."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from pipeline.errors import RunInUseError, StoreError
from pipeline.store.shared.link import Link
from pipeline.store.shared.schema import RUNS, now_s

_RENEWALS = 6
"""In the time of a lease: five may fail before somebody else can take it."""
_LONGEST_RENEWAL_S = 10.0
"""So long is one that is under way waited for when the run is closed."""

_log = logging.getLogger(__name__)


class Lease:
    """The one writer of a run; a thread renews it until it is released, or was lost."""

    def __init__(self, link: Link, run: str, holder: str) -> None:
        """Begin to renew a lease that was just written into the run's row."""
        self.run = run
        self.holder = holder
        self._link = link
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {run}", daemon=True)
        self._thread.start()

    def hold(self, connection: Connection) -> None:
        """Extend the lease, and keep others from it until the transaction ends: the first step of every write.

        Raises:
            StoreError: somebody else has it, or had it meanwhile.
        """
        if connection.execute(_extended(self)).rowcount == 0:
            self._ended.set()
            other = _in_words(_holder_of(connection, self.run)[0])
            raise StoreError(
                f"run {self.run} was taken over by {other}, because this process did not answer for "
                "longer than its lease; it writes nothing more, and what it stored before is kept"
            )

    @property
    def is_lost(self) -> bool:
        """Whether another writer has taken the run, as far as this process knows."""
        return self._ended.is_set()

    def release(self) -> None:
        """Let others write at once; more than once does no harm, nor does a lease that was lost.

        Raises:
            StoreError: the database cannot be reached; the lease then runs out by itself.
        """
        self._ended.set()
        self._thread.join(_LONGEST_RENEWAL_S)
        self._link.transact(lambda connection: connection.execute(_released(self)), patience_s=2.0)

    def _renew(self) -> None:
        while not self._ended.wait(self._link.url.lease_s / _RENEWALS):
            try:
                self._link.transact(self.hold, patience_s=0.0)
            except StoreError as error:  # the next write says so, unless the database is back by then
                _log.debug("%s", error)


def new_holder() -> str:
    """Return what this process is called as a writer; nobody else is ever called so."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def take(link: Link, run: str) -> Lease:
    """Take the lease of a run that nobody writes.

    Raises:
        RunInUseError: somebody does; says who, and how long the lease lasts unless it is renewed.
    """
    holder = new_holder()

    def taken(connection: Connection) -> None:
        free = or_(RUNS.c.holder.is_(None), RUNS.c.expires < now_s(), RUNS.c.holder == holder)
        values = held_by(holder, link.url.lease_s)
        if connection.execute(update(RUNS).where(RUNS.c.id == run, free).values(values)).rowcount == 0:
            other, left_s = _holder_of(connection, run)
            raise RunInUseError(
                f"run {run} is being written by {_in_words(other)}; wait until it ends, or stop it there. If that host "
                f"is gone, its lease runs out in {max(left_s, 0.0):.0f} s"
            )

    link.transact(taken)
    return Lease(link, run, holder)


def held_by(holder: str, lease_s: float) -> dict[str, Any]:
    """Return the columns of a run whose lease begins now."""
    return {"holder": holder, "expires": now_s() + lease_s}


def is_held() -> ColumnElement[bool]:
    """Return whether somebody writes a run, as a condition on its row."""
    return and_(RUNS.c.holder.is_not(None), RUNS.c.expires >= now_s())


def _extended(lease: Lease) -> Any:
    values = held_by(lease.holder, lease._link.url.lease_s)
    return update(RUNS).where(RUNS.c.id == lease.run, RUNS.c.holder == lease.holder).values(values)


def _released(lease: Lease) -> Any:
    mine = (RUNS.c.id == lease.run, RUNS.c.holder == lease.holder)
    return update(RUNS).where(*mine).values(holder=None, expires=None)


def _holder_of(connection: Connection, run: str) -> tuple[str | None, float]:
    """Return who holds a run's lease, and the seconds that are left of it."""
    row = connection.execute(select(RUNS.c.holder, RUNS.c.expires - now_s()).where(RUNS.c.id == run)).first()
    return (None, 0.0) if row is None or row[0] is None else (row[0], row[1])


def _in_words(holder: str | None) -> str:
    """Return who that is.

    >>> _in_words("lab-2:4711:0f3c"), _in_words(None)
    ('process 4711 of host lab-2', 'a process that has ended')
    """
    if holder is None:
        return "a process that has ended"
    host, _, rest = holder.partition(":")
    return f"process {rest.partition(':')[0]} of host {host}"
