"""The way to a database: cut in the middle it is tried again, and what cannot be is said in one line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import OutputError, PipelineError, StoreError
from pipeline.store import Store, runs_root
from pipeline.store.facts import CHOSEN
from pipeline.store.new_run import require_place
from pipeline.store.shared import link
from tests.examples import trial
from tests.postgresql_server import PostgresqlServer, programs


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server to stop and to start."""
    if programs() is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    server = PostgresqlServer().start()
    yield server
    server.remove()


def said(use: Callable[[], object], kind: type[PipelineError] = StoreError) -> str:
    """Return the one line of what goes wrong."""
    with pytest.raises(kind) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_connections_that_the_server_cuts_lose_nothing(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    name = postgresql.new_database()
    with Store.create(runs_root(postgresql.url(name, tmp_path)), label="x") as store:
        done = threading.Event()

        def cut() -> None:
            while not done.wait(0.2):
                postgresql.sql(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
                    "AND application_name = 'pipeline'", "postgres",
                )  # fmt: skip

        thread = threading.Thread(target=cut)
        thread.start()
        for index in range(30):
            store.append(trial(index))
            store.set(CHOSEN, str(index))
        done.set()
        thread.join()
        assert [one.index for one in store.trials()] == list(range(30))


@pytest.mark.slow
def test_a_server_that_is_restarted_is_waited_for(own_server: PostgresqlServer, tmp_path: Path) -> None:
    with Store.create(runs_root(own_server.url(own_server.new_database(), tmp_path)), label="x") as store:
        store.append(trial(0))
        own_server.stop(signal.SIGQUIT)
        again = threading.Timer(0.5, own_server.start)
        again.start()
        store.append(trial(1))
        again.join()
        assert len(store.trials()) == 2


@pytest.mark.slow
def test_a_server_that_does_not_come_back_is_said_and_so_is_what_becomes_of_the_run(
    own_server: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "PATIENCE_S", 1.0)
    with Store.create(runs_root(own_server.url(own_server.new_database(), tmp_path)), label="x") as store:
        (store.path / "report.html").write_text("")
        own_server.stop(signal.SIGQUIT)
        assert "tried for 1 s; start it, or check host and port" in said(lambda: store.append(trial(1)))
    assert "its report and other files stay on this machine" in caplog.text
    assert "can be written by others once its lease of 30 s is over" in caplog.text
    own_server.start()


def test_a_server_that_was_never_there_is_not_waited_for(tmp_path: Path) -> None:
    root = runs_root(f"postgresql://lab:s3cret@/runs?host={tmp_path}&blobs={tmp_path}")
    assert "cannot be reached" in said(lambda: Store.list(root))
    assert "start it, or check host and port" in said(lambda: require_place(root), OutputError)


def test_what_a_server_refuses_is_said_with_what_to_do(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    name = postgresql.new_database()
    there = runs_root(postgresql.url(name, tmp_path))
    missing = runs_root(postgresql.url("nowhere", tmp_path))
    assert "it has no such database; make one there: createdb NAME" in said(lambda: Store.list(missing))
    stranger = runs_root(postgresql.url(name, tmp_path, user="stranger:s3cret"))
    assert "it has no such user; make one there: createuser NAME" in said(lambda: Store.list(stranger))
    postgresql.sql("CREATE ROLE reader LOGIN", name)
    reader = runs_root(postgresql.url(name, tmp_path, user="reader:s3cret"))
    assert "its user lacks a right" in said(lambda: Store.create(reader, label="x"))
    assert "its user lacks a right" in said(lambda: require_place(reader), OutputError)
    Store.create(there, label="x").close()
    assert "its user lacks a right" in said(lambda: Store.list(reader))


def test_where_a_run_is_begun_its_place_is_tried_out(new_url: Callable[..., str], tmp_path: Path) -> None:
    require_place(runs_root(new_url(blobs=tmp_path / "made" / "blobs")))
    assert not (tmp_path / "made").exists()
    (tmp_path / "file").write_text("")
    assert "file" in said(lambda: require_place(runs_root(new_url(blobs=tmp_path / "file" / "blobs"))), OutputError)
