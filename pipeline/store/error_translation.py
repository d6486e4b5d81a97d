"""Errors of SQLite and the operating system, translated into StoreError with what to do."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NEARLY_FULL_BYTES = 64 * 1024
"""SQLite reports a full disk as a bare I/O error while it grows its shared-memory file, which takes 32 KiB steps."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong at ``path`` into a StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(explain_sqlite(error, path)) from error
    except UnicodeDecodeError as error:
        raise StoreError(
            f"{path} is damaged ({error}); move its folder away, the other runs are not concerned"
        ) from error
    except OSError as error:
        raise StoreError(_explain_os(error, path)) from error


def explain_sqlite(error: sqlite3.Error, path: Path) -> str:
    """Return in words what SQLite says of a file, and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF  # https://www.sqlite.org/rescode.html#primary_result_codes
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _free_bytes(path) < _NEARLY_FULL_BYTES):
        return _full(path)
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _forbidden(path, str(error))
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{path} is damaged ({error}); move its folder away, the other runs are not concerned"
    if primary == sqlite3.SQLITE_BUSY:
        return f"{path} is in use by another program ({error}); close that program and try again"
    return f"{path} cannot be used: {error}"


def _explain_os(error: OSError, path: Path) -> str:
    if error.errno in _FULL:
        return _full(path)
    if error.errno in _FORBIDDEN:
        return _forbidden(path, error.strerror or str(error))
    return f"{path} cannot be used: {error.strerror or error}"


def _full(path: Path) -> str:
    free = _free_bytes(path) / 1e6
    return f"no room left to write {path}: {free:.1f} MB are free there; make room, then resume the run"


def _forbidden(path: Path, reason: str) -> str:
    return f"{path} cannot be opened or written ({reason}); choose another folder, or change its permissions"


def _free_bytes(path: Path) -> int:
    existing = next(p for p in (path, *path.parents, Path("/")) if p.exists())
    return shutil.disk_usage(existing).free
