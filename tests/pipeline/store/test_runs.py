"""The folder of runs: names, finding, the list."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import RunNotFoundError, StoreError
from pipeline.store import RunSummary, Store
from pipeline.store.database import NAME, Database
from pipeline.store.facts import CONFIG, DEVICE, SECONDS
from pipeline.store.runs import new_folder, published
from tests.examples import failed_trial, trial


def make_run(root: Path, label: str = "digits-local") -> str:
    with Store.create(root, label=label) as store:
        store.finish()
        return store.id


def test_a_runs_name_is_the_time_and_the_label(tmp_path: Path) -> None:
    assert published(new_folder(tmp_path), "Digits: local/../x").name[8:].rpartition("-digits")[2] == "-local-x"


def test_runs_of_the_same_second_get_names_of_their_own_and_keep_their_order(tmp_path: Path) -> None:
    made = [make_run(tmp_path) for _ in range(12)]
    assert len(set(made)) == 12
    assert [summary.id for summary in Store.list(tmp_path)] == made
    with Store.open(tmp_path, "latest") as store:
        assert store.id == made[-1]


def test_there_are_no_runs_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert Store.list(tmp_path / "runs") == []
    with pytest.raises(RunNotFoundError, match=r"no runs in .* yet; start one: pipeline run"):
        Store.open(tmp_path / "runs", "latest")


def test_a_run_is_found_by_a_prefix_of_its_own(tmp_path: Path) -> None:
    name = make_run(tmp_path)
    with Store.open(tmp_path, name[:-3]) as store:
        assert store.id == name


def test_a_prefix_of_several_runs_is_refused_with_their_names(tmp_path: Path) -> None:
    first, second = tmp_path / "20260101-000000-a", tmp_path / "20260101-000000-b"
    first.mkdir()
    second.mkdir()
    with pytest.raises(RunNotFoundError, match=f"begins the names of 2 runs: {first.name}, {second.name}; say more"):
        Store.open(tmp_path, "2026")


def test_a_whole_name_that_begins_another_ones_is_that_run(tmp_path: Path) -> None:
    names = {make_run(tmp_path) for _ in range(2)}
    shorter = min(names, key=len)
    with Store.open(tmp_path, shorter) as store:
        assert store.id == shorter


@pytest.mark.parametrize("wanted", ["", "..", "../runs", "/etc", "nothing"])
def test_what_is_no_run_is_not_found(tmp_path: Path, wanted: str) -> None:
    make_run(tmp_path)
    with pytest.raises(RunNotFoundError, match="pipeline runs list"):
        Store.open(tmp_path, wanted)


def test_a_misspelt_name_brings_up_the_nearest(tmp_path: Path) -> None:
    name = make_run(tmp_path)
    with pytest.raises(RunNotFoundError, match=f"did you mean '{name}'"):
        Store.open(tmp_path, name.replace("digits", "digit"))


def test_the_summary_says_what_ran_and_how_it_went(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x") as store:
        store.set(CONFIG, {"model": "resnet20", "data": "cifar10:/data", "target": ["latency=0.5x", "size=1MB"]})
        store.set(DEVICE, {"name": "pi", "kind": "raspberry-pi-4"})
        store.append(trial(1, reward=0.3))
        store.append(trial(2, reward=0.8, feasible=False))
        store.append(failed_trial(3))
        (running,) = Store.list(tmp_path)
        store.finish()
    (finished,) = Store.list(tmp_path)
    assert (running.status, finished.status) == ("running", "finished")
    assert (finished.device, finished.model, finished.data) == ("pi", "resnet20", "cifar10:/data")
    assert finished.target == "latency=0.5x, size=1MB"
    assert (finished.trials, finished.best_reward) == (3, 0.3)
    assert finished.seconds is not None
    assert 0 <= finished.seconds < 60


def test_an_interrupted_run_lasted_until_its_last_trial(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x") as store:
        store.append(trial(1))
    (summary,) = Store.list(tmp_path)
    assert summary.status == "interrupted"
    assert summary.seconds is not None


def test_a_resumed_run_took_the_seconds_it_worked_not_those_it_slept(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x") as store:
        store.set(SECONDS, 42.5)
        store.finish()
    assert Store.list(tmp_path)[0].seconds == 42.5


def test_a_damaged_run_is_listed_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "20200101-000000-no-database").mkdir()
    garbled = tmp_path / "20210101-000000-garbled"
    garbled.mkdir()
    (garbled / "run.sqlite").write_bytes(b"\xff" * 5000)
    good = make_run(tmp_path)
    listed = Store.list(tmp_path)
    assert [(s.id, s.status) for s in listed] == [
        ("20200101-000000-no-database", "damaged"),
        ("20210101-000000-garbled", "damaged"),
        (good, "finished"),
    ]
    assert listed[0] == RunSummary(id="20200101-000000-no-database", status="damaged")
    with pytest.raises(StoreError, match=r"it has no run\.sqlite"):
        Store.open(tmp_path, "20200101")


def test_other_folders_and_files_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "20260101-000000-file").write_text("")
    assert Store.list(tmp_path) == []


def begun(root: Path, label: str = "digits-local") -> str:
    with Store.create(root, label=label, facts={CONFIG: {"data": "digits"}}) as store:
        return store.id


def empty(folder: Path) -> None:
    folder.mkdir()


def only_a_lock(folder: Path) -> None:
    folder.mkdir()
    (folder / "lock").write_bytes(b"")


def empty_database(folder: Path) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(b"")


def tables_alone(folder: Path) -> None:
    folder.mkdir()
    Database.create(folder).close()


def somebody_elses(folder: Path) -> None:
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"a picture")


def garbled(folder: Path) -> None:
    with Store.create(folder.parent, label="garbled", facts={CONFIG: {"data": "digits" * 3000}}) as store:
        store.path.rename(folder)
    content = bytearray((folder / NAME).read_bytes())
    content[3 * 4096 :] = b"\xff" * (len(content) - 3 * 4096)
    (folder / NAME).write_bytes(content)


def pipe(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / NAME)
    os.mkfifo(folder / "lock")


@pytest.mark.parametrize(
    "make",
    [empty, only_a_lock, empty_database, tables_alone, somebody_elses, garbled, pipe],
    ids=lambda make: make.__name__,
)
def test_the_latest_run_is_the_newest_that_can_be_used_and_others_are_named(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = begun(tmp_path)
    make(tmp_path / "29990101-000000-digits")
    with Store.open(tmp_path, "latest") as store:
        assert store.id == good
    (said,) = [record.getMessage() for record in caplog.records]
    assert "29990101-000000-digits" in said
    assert f"the latest run that can be used is {good}" in said


def test_where_none_can_be_used_the_newest_says_why(tmp_path: Path) -> None:
    empty(tmp_path / "29990101-000000-digits")
    with pytest.raises(StoreError, match=r"has no run\.sqlite; move it away"):
        Store.open(tmp_path, "latest")


def test_a_run_that_is_killed_while_it_is_made_leaves_no_run(tmp_path: Path) -> None:
    for folder in (new_folder(tmp_path), new_folder(tmp_path)):
        Database.create(folder).close()
    assert Store.list(tmp_path) == []
    first, second = (folder for folder in tmp_path.iterdir())
    os.utime(first, (0, 0))
    good = begun(tmp_path)
    assert {folder.name for folder in tmp_path.iterdir()} == {good, second.name}  # perhaps somebody is still making it


def test_whoever_sees_a_new_run_sees_its_settings(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x", facts={CONFIG: {"data": "digits"}}) as store:
        (listed,) = Store.list(tmp_path)
        assert (listed.id, listed.data, listed.status) == (store.id, "digits", "running")
