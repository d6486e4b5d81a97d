"""Databases of runs: SQLite in a file and PostgreSQL, each test with one of its own; and hosts that see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store import runs_root
from pipeline.store.shared.url import SharedUrl
from tests.postgresql_server import PostgresqlServer

KINDS = ["sqlite", "postgresql"]
NewUrl = Callable[..., str]


@pytest.fixture(autouse=True)
def on_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Be a host of that name from now on, with a cache of its own; the first is ``a``."""

    def be(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"host-{name}"))

    be("a")
    return be


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """Return URLs of one new database: ``new_url(more="&lease=2s")``."""
    blobs = tmp_path / "blobs"
    if request.param == "sqlite":
        return lambda more="", blobs=blobs: f"sqlite:///{tmp_path}/runs.sqlite?blobs={blobs}{more}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    schema = server.new_schema()
    return lambda more="", blobs=blobs: server.url("postgres", blobs, more=f"{schema}{more}")


@pytest.fixture
def root(new_url: NewUrl) -> SharedUrl:
    """An empty database of runs."""
    found = runs_root(new_url())
    assert isinstance(found, SharedUrl)
    return found
