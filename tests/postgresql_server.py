"""A PostgreSQL server of Debian's, in a folder of its own: a Unix socket, no port, as a user that is not root."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

_OPTIONS = {
    "listen_addresses": "", "fsync": "off", "full_page_writes": "off",
    "shared_buffers": "16MB", "max_connections": "40", "autovacuum": "off",
}  # fmt: skip
_DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
PATIENCE_S = 60.0


def programs() -> Path | None:
    """Return the folder of initdb and postgres, which Debian keeps out of PATH; None: it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresqlServer:
    """Started by ``start``, until ``stop``; whoever may open its socket is its user ``lab``."""

    def __init__(self, *, durable: bool = False) -> None:
        """Make its files; ``durable``: each commit is on the disk, as it is outside of tests."""
        bin_folder = programs()
        assert bin_folder is not None
        self._bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="pipeline-postgresql-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # which the server refuses to run as
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._options = {**_OPTIONS, **(_DURABLE if durable else {})}
        self._names = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self.folder / "data", "-U", "lab", "-A", "trust", "-E", "UTF8", "--locale=C",
                  "--no-sync")  # fmt: skip

    def start(self) -> PostgresqlServer:
        """Start the server; return when it answers."""
        options = [word for key, value in self._options.items() for word in ("-c", f"{key}={value}")]
        words = [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, *options]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log, **self._user)
        log.close()
        until = time.monotonic() + PATIENCE_S
        while self._do("psql", "-h", self.folder, "-U", "lab", "-c", "SELECT 1", "postgres").returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.05)
        return self

    def stop(self, sign: int = signal.SIGINT) -> None:
        """Stop it: SIGINT cuts every connection, SIGQUIT does so without a word."""
        assert self._process is not None
        self._process.send_signal(sign)
        self._process.wait(PATIENCE_S)

    def remove(self) -> None:
        """Stop it, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """Make an empty database; return its name."""
        name = f"runs{next(self._names)}"
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return name

    def new_schema(self) -> str:
        """Make an empty schema, which takes no thousand files as a database does; return how a URL names it."""
        name = f"schema{next(self._names)}"
        self.sql(f"CREATE SCHEMA {name}", "postgres")
        return f"&options=-csearch_path%3D{name}"

    def sql(self, statement: str, database: str) -> str:
        """Execute SQL as whoever owns everything; return what psql prints."""
        done = self._run("psql", "-h", self.folder, "-U", "lab", "-tAc", statement, database)
        return done.stdout.decode().strip()

    def url(self, database: str, blobs: Path | str, *, user: str = "lab", more: str = "") -> str:
        """Return what is typed after ``--runs``."""
        return f"postgresql://{user}@/{database}?host={self.folder}&blobs={blobs}{more}"

    def _run(self, program: str, *words: object) -> subprocess.CompletedProcess[bytes]:
        done = self._do(program, *words)
        assert done.returncode == 0, done.stderr.decode()
        return done

    def _do(self, program: str, *words: object) -> subprocess.CompletedProcess[bytes]:
        command = [str(self._bin / program), *map(str, words)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, check=False, **self._user)
