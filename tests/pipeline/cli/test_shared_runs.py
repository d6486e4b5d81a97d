"""Runs that hosts share, as users meet them: two hosts in one PostgreSQL, one of which is killed; runs migrated."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.options import runs_option
from pipeline.store import runs_root
from tests.command_line import Desk, Done, eventually, finished, read_until
from tests.postgresql_server import PostgresqlServer


class Host(Desk):
    """A host that sees the user's folder and the database, with a cache and a board of its own."""

    def __init__(self, desk: Desk, name: str, runs: str) -> None:
        self.folder, self._settings, self._name, self._runs = desk.folder, desk._settings, name, runs
        inventory = (self.folder / "inventory.yaml").read_text()
        self.inventory = f"inventory-{name}.yaml"
        self.write(self.inventory, inventory.replace("/agent", f"/agent-{name}"))

    def _environment(self) -> dict[str, str]:
        own = self.folder / f"host-{self._name}"
        own.mkdir(exist_ok=True)
        return {
            **super()._environment(),
            "PIPELINE_RUNS": self._runs, "XDG_CACHE_HOME": str(own), "PIPELINE_LOCK_DIR": str(own),
        }  # fmt: skip

    def shown(self, run: str) -> Any:
        return quiet(self.done("runs", "show", run, "--json")).json


def quiet(done: Done) -> Done:
    """Return how a command ended, none of whose words is the password."""
    assert "s3cret" not in done.out + done.err
    return done


@pytest.mark.timeout(600)
def test_two_hosts_search_in_one_store_and_the_run_of_one_that_is_killed_is_ended_by_the_other(
    postgresql: PostgresqlServer, new_desk: Callable[[], Desk], tmp_path: Path
) -> None:
    url = postgresql.url(postgresql.new_database(), tmp_path / "blobs", user="lab:s3cret", more="&lease=4s")
    desk = new_desk()
    one, other = (Host(desk, name, url) for name in ("one", "other"))
    dying, living = (
        host.start("run", "--config", "run.yaml", "--trials", "2", "--inventory", host.inventory)
        for host in (one, other)
    )
    announced = re.search(r"^run (\S+):", read_until(dying, "trial 0:"), re.M)
    assert announced is not None
    killed = announced[1]
    dying.kill()
    assert finished(dying).code == -signal.SIGKILL
    refused = quiet(other.do("run", "--resume", killed))
    assert f"run {killed} is being written by process {dying.pid} of host" in refused.error
    assert "its lease runs out in" in refused.error
    kept = other.shown(killed)["trials"]
    assert kept
    assert eventually(lambda: other.shown(killed)["status"] == "interrupted", 30)
    assert quiet(finished(living)).code == 0
    resumed = quiet(other.done("run", "--resume", killed, "--inventory", other.inventory, "--json")).json
    listed = quiet(one.done("runs", "list", "--json")).json
    assert [(run["status"], run["trials"]) for run in listed] == [("finished", 2)] * 2
    assert [trial["index"] for trial in resumed["trials"]] == [0, 1]
    assert resumed["trials"][: len(kept)] == kept
    quiet(one.done("pull", killed, "--output", "my-model"))  # whose files the other host has written
    assert list((desk.folder / "host-one").glob(f"**/{killed}/sample.*"))


def test_runs_of_a_folder_are_migrated_and_every_command_finds_them(ran: Desk, desk: Desk) -> None:
    url = "sqlite:///shared.sqlite?blobs=blobs"
    migrate = ("runs", "migrate", "--from", str(ran.runs), "--runs", url)
    (copied,) = desk.done(*migrate, "--json").json
    assert (copied["outcome"], copied["why"]) == ("copied", "")
    done = desk.done(*migrate)
    assert done.out == "0 copied, 1 there already, of 1\n"
    assert f"{copied['id']}: there already" in done.err
    (listed,) = desk.done("runs", "list", "--json", "--runs", url).json
    assert listed == ran.done("runs", "list", "--json").json[0]
    shown = desk.done("runs", "show", "latest", "--runs", url)
    assert shown.out == ran.done("runs", "show", "latest").out
    desk.done("runs", "show", "latest", "--groups", "--runs", url)
    assert desk.done("compare", "latest", "--json", "--runs", url).json
    assert desk.done("plan", "latest", "--target", "latency=0.9x", "--no-measure", "--json", "--runs", url).json
    desk.done("pull", "latest", "--output", "my-model", "--runs", url)
    assert (desk.folder / "my-model" / "manifest.json").exists()
    assert not desk.runs.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("runs", "migrate"), "runs is a folder; name one: --runs postgresql://"),
        (("runs", "list", "--runs", "postgresql://lab:s3cret@db/runs"), "where do the files go"),
        (("runs", "list", "--runs", "mysql://lab:s3cret@db/runs"), "mysql:// holds no runs"),
        (("run", "--runs", "sqlite:///nowhere/runs.sqlite?blobs=b"), "cannot be opened or written"),
    ],
    ids=["folder", "no blobs", "mysql", "no folder"],
)
def test_a_place_of_runs_that_cannot_be_used_is_one_line(desk: Desk, arguments: tuple[str, ...], says: str) -> None:
    done = quiet(desk.do(*arguments))
    assert done.code != 0
    assert says in done.error


@pytest.mark.parametrize(
    ("typed", "environment", "shown"),
    [
        ("runs", "", ""),
        ("other runs", "other runs", " --runs 'other runs'"),
        ("sqlite:///r?blobs=b", "", " --runs 'sqlite:///r?blobs=b'"),
        ("postgresql://lab:s3cret@db/r?blobs=b", "mysql://", " --runs 'postgresql://lab:***@db/r?blobs=b'"),
        ("postgresql://lab:s3cret@db/r?blobs=b", "postgresql://lab:s3cret@db/r?blobs=b", ""),
    ],
)
def test_the_next_command_that_is_shown_finds_the_runs_and_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, typed: str, environment: str, shown: str
) -> None:
    monkeypatch.setenv("PIPELINE_RUNS", environment)
    assert runs_option(runs_root(typed)) == shown


def test_who_keeps_runs_in_folders_imports_nothing_of_databases(desk: Desk) -> None:
    script = """
import sys
from pipeline.cli import main
try:
    main()
except SystemExit:
    pass
print([name for name in ("sqlalchemy", "fsspec", "psycopg") if name in sys.modules])
"""
    for words in (("--help",), ("runs", "list")):
        process = desk.start_cold(*words, command=(sys.executable, "-c", script))
        assert finished(process).out.splitlines()[-1] == "[]"
