"""One run in a database: what is put in comes out, on every host that sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.errors import RunInUseError, RunNotFoundError, StoreError
from pipeline.report.run_json import as_json
from pipeline.store import Store, runs_root
from pipeline.store.facts import BASE, CHOSEN, CONFIG, DEVICE, FINISHED_AT, SECONDS
from pipeline.store.shared.url import SharedUrl
from pipeline.store.shared.working_folder import files_in
from tests.examples import artifact, failed_trial, figures, measurement, power, trial
from tests.pipeline.store.shared.databases import sql


@pytest.fixture
def store(root: SharedUrl):
    with Store.create(root, label="digits-local", facts={CONFIG: {"data": "digits"}}) as store:
        yield store


# ---------------------------------------------------------------- records


def test_everything_comes_back_on_another_host(store: Store, root: SharedUrl, on_host: Callable[[str], None]) -> None:
    store.set(BASE, figures())
    store.set(CHOSEN, "a1")
    store.set(CHOSEN, "a2")
    both = [trial(2, measurement=measurement(power=power())), failed_trial(1)]
    for one in both:
        store.append(one)
    for p50_ms in (1.0, 2.0):
        store.remember("8-4", measurement(p50_ms))
    first, second = artifact({}, id="a1"), artifact({}, id="a2", chosen=False)
    for one in (first, second, replace(first, chosen=False)):
        store.add_artifact(one)
    on_host("b")
    with Store.open(root, store.id) as reader:
        assert (reader.get(BASE), reader.get(CHOSEN), reader.get(SECONDS)) == (figures(), "a2", None)
        assert reader.trials() == both[::-1]
        assert (reader.recall("8-4"), reader.recall("8")) == (measurement(2.0), None)
        assert reader.artifacts() == [replace(first, chosen=False), second]
        assert as_json(reader) == as_json(store)


def test_a_trial_is_stored_once(store: Store) -> None:
    store.append(trial(3))
    with pytest.raises(StoreError, match=r"trial 3 of run .* is stored already"):
        store.append(trial(3))
    assert len(store.trials()) == 1


def test_measurements_are_found_and_forgotten_by_how_their_keys_begin(store: Store) -> None:
    for key in ("round 1 b", "round 1 a", "round 10 a", "Round 1 a", "round_1 a"):
        store.remember(key, measurement())
    assert store.measured("round 1 ") == ["round 1 a", "round 1 b"]
    store.forget("round 1 ")
    assert store.measured("") == ["Round 1 a", "round 10 a", "round_1 a"]


def test_several_threads_may_append(store: Store) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 5):
            store.append(trial(number))

    threads = [threading.Thread(target=work, args=(5 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.index for one in store.trials()] == list(range(20))


def test_a_reader_may_not_write_and_a_closed_run_not_be_used(store: Store, root: SharedUrl) -> None:
    with Store.open(root, store.id) as reader, pytest.raises(StoreError, match="opened for reading"):
        reader.set(CHOSEN, "a1")
    with pytest.raises(StoreError, match="cannot be used: the run was closed"):
        reader.trials()


# ---------------------------------------------------------------- status


def test_a_run_is_written_by_one_host_at_a_time(store: Store, root: SharedUrl) -> None:
    assert store.status == "running"
    with pytest.raises(RunInUseError, match=r"is being written by process \d+ of host .* runs out in (29|30) s"):
        Store.open(root, store.id, write=True)
    store.finish("failed")
    store.close()
    store.close()
    with Store.open(root, store.id, write=True) as again:
        assert (again.status, again.get(FINISHED_AT)) == ("running", None)
    with Store.open(root, store.id) as reader:
        assert reader.status == "interrupted"


def test_a_finished_run_stays_finished_even_when_it_is_opened_to_write(store: Store, root: SharedUrl) -> None:
    store.finish()
    store.close()
    with Store.open(root, store.id, write=True) as again:
        assert again.status == "finished"
        assert again.get(FINISHED_AT) is not None


def test_of_hosts_that_resume_a_run_at_once_one_gets_it(store: Store, root: SharedUrl) -> None:
    store.close()
    found: list[Store | RunInUseError] = []

    def resume() -> None:
        try:
            found.append(Store.open(root, store.id, write=True))
        except RunInUseError as error:
            found.append(error)

    threads = [threading.Thread(target=resume) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (one,) = [each for each in found if isinstance(each, Store)]
    assert len(found) == 6
    one.append(trial(0))
    one.close()


# ---------------------------------------------------------------- files


def test_a_blob_is_one_file_for_all_runs_and_hosts(
    store: Store, root: SharedUrl, on_host: Callable[[str], None], tmp_path: Path
) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"network")
    name = store.put_blob(source)
    on_host("b")
    with Store.create(root, label="other") as other:
        assert other.put_blob(b"network") == name
        assert other.blob(name) == tmp_path / "blobs" / name[:2] / name
        assert other.blob(name).read_bytes() == b"network"
        other.blob(name).write_bytes(b"netwark")
        with pytest.raises(StoreError, match="is damaged"):
            store.verify_blob(name)


def test_files_with_names_follow_the_run_to_another_host(
    store: Store, root: SharedUrl, on_host: Callable[[str], None]
) -> None:
    (store.path / "report.html").write_text("first")
    (store.path / ".partial-x").write_text("half")
    store.close()
    on_host("b")
    with Store.open(root, store.id, write=True) as again:
        assert [path.name for path in files_in(again.path)] == ["report.html"]
        (again.path / "report.html").write_text("second")
        (again.path / "sample.png").write_text("digit")
    on_host("a")
    with Store.open(root, store.id) as reader:
        assert (reader.path / "report.html").read_text() == "second"
        assert (reader.path / "sample.png").read_text() == "digit"
    with Store.open(root, store.id, write=True):  # which never looks at them
        pass
    with Store.open(root, store.id) as reader:
        assert (reader.path / "report.html").read_text() == "second"


def test_what_a_killed_writer_left_on_its_host_is_kept_there_when_the_run_goes_on(
    store: Store, root: SharedUrl
) -> None:
    (store.path / "recording").write_text("first")
    store.close()
    with Store.open(root, store.id, write=True) as killed:
        (killed.path / "recording").write_text("first and second")
        killed._run._lease.release()  # and nothing more: as if it were killed
    with Store.open(root, store.id, write=True) as again:
        assert (again.path / "recording").read_text() == "first and second"


def test_a_training_goes_on_from_its_checkpoint_on_another_host(
    store: Store, root: SharedUrl, on_host: Callable[[str], None], tmp_path: Path
) -> None:
    assert store.checkpoint("base").read() is None
    store.checkpoint("base").write(b"half way")
    store.checkpoint("base").write(b"further")
    store.checkpoint("r1t0").write(b"other")
    store.close()
    on_host("b")
    with Store.open(root, store.id, write=True) as again:
        assert (again.checkpoint("base").read(), again.checkpoint("r1t0").read()) == (b"further", b"other")
        for name in ("base", "r1t0", "r1t0"):
            again.checkpoint(name).remove()
        assert again.checkpoint("base").read() is None
    assert not list((tmp_path / "blobs" / "checkpoints").rglob("*.safetensors"))


# ---------------------------------------------------------------- many runs


def test_all_runs_are_listed_by_one_query(root: SharedUrl, tmp_path: Path) -> None:
    assert Store.list(root) == []
    with Store.create(root, label="x") as store:
        store.set(CONFIG, {"model": "resnet20", "data": "cifar10:/data", "target": ["latency=0.5x", "size=1MB"]})
        store.set(DEVICE, {"name": "pi", "kind": "raspberry-pi-4"})
        for one in (trial(1, reward=0.3), trial(2, reward=0.8, feasible=False), failed_trial(3)):
            store.append(one)
        (running,) = Store.list(root)
        store.finish()
    for _ in range(3):
        Store.create(root, label="x").close()
    queries: list[str] = []
    event.listen(Engine, "before_cursor_execute", lambda *how: queries.append(how[2]))
    found = Store.list(root)
    assert len([query for query in queries if "pipeline_runs" in query and "SELECT" in query]) == 1
    finished, *others = found
    assert (running.status, finished.status, {one.status for one in others}) == ("running", "finished", {"interrupted"})
    assert (finished.device, finished.model, finished.data) == ("pi", "resnet20", "cifar10:/data")
    assert (finished.trials, finished.best_reward) == (3, 0.3)
    assert finished.seconds is not None
    assert finished.id == store.id


def test_runs_of_the_same_second_get_names_of_their_own_and_are_found(root: SharedUrl) -> None:
    made = []
    for _ in range(3):
        with Store.create(root, label="digits", facts={CONFIG: {"data": "digits"}}) as store:
            made.append(store.id)
    assert [summary.id for summary in Store.list(root)] == made
    for wanted in ("latest", made[-1]):
        with Store.open(root, wanted) as store:
            assert store.id == made[-1]
    with pytest.raises(RunNotFoundError, match="begins the names of 3 runs"):
        Store.open(root, made[0][:8])
    with pytest.raises(RunNotFoundError, match=r"no run 'x' in .*see them all"):
        Store.open(root, "x")


def test_in_an_empty_database_there_are_no_runs_yet(root: SharedUrl) -> None:
    with pytest.raises(RunNotFoundError, match=r"no runs in .* yet; start one: pipeline run"):
        Store.open(root, "latest")


def test_the_latest_run_is_one_whose_settings_are_known(
    store: Store, root: SharedUrl, caplog: pytest.LogCaptureFixture
) -> None:
    Store.create(root, label="half made").close()
    with Store.open(root, "latest") as latest:
        assert latest.id == store.id
    assert "ended before its settings were stored; it is passed over" in caplog.text


# ---------------------------------------------------------------- the worst


def test_a_newer_schema_is_refused_with_both_versions(store: Store, root: SharedUrl) -> None:
    store.close()
    sql(root, "UPDATE pipeline_schema SET version = 99")
    for use in (lambda: Store.list(root), lambda: Store.open(root, store.id), lambda: Store.create(root, label="x")):
        with pytest.raises(StoreError, match=r"schema 99, written by a newer program; this one reads up to 1: upgrade"):
            use()


def test_a_damaged_run_is_listed_and_hides_no_other(store: Store, root: SharedUrl) -> None:
    with Store.create(root, label="damaged") as other:
        other.append(trial(7))
    sql(root, f"UPDATE pipeline_facts SET json = '[' WHERE run = '{other.id}' AND key = 'status'",
        f"UPDATE pipeline_trials SET json = '{{}}' WHERE run = '{other.id}'")  # fmt: skip
    assert {run.id: run.status for run in Store.list(root)} == {store.id: "running", other.id: "damaged"}
    with Store.open(root, other.id) as reader, pytest.raises(StoreError, match="its trial 7 cannot be read"):
        reader.trials()


def test_a_fact_larger_than_any_is_said_when_the_run_is_opened(store: Store, root: SharedUrl) -> None:
    long = "x" * (4 * 2**20 + 1)
    sql(root, f"UPDATE pipeline_facts SET json = '{long}' WHERE key = 'config'")
    with pytest.raises(StoreError, match="its fact 'config' has more than"):
        Store.open(root, store.id)


def test_files_of_other_places_are_not_fetched(store: Store, root: SharedUrl, tmp_path: Path) -> None:
    blob = store.put_blob(b"x")
    for name in ("../evil", ".ssh", "/tmp/evil"):
        sql(root, f"INSERT INTO pipeline_files VALUES ('{store.id}', '{name}', '{blob}')")
    assert files_in(store.path) == []
    assert not (store.path / ".ssh").exists()
    assert not (store.path.parent / "evil").exists()


def test_a_checkpoint_is_read_from_no_other_place(store: Store, root: SharedUrl, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    sql(root, f"INSERT INTO pipeline_files VALUES ('{store.id}', 'checkpoints/base', 'checkpoints/../../secret')")
    for use in (store.checkpoint("base").read, store.checkpoint("base").remove):
        with pytest.raises(StoreError, match="is no checkpoint of its training base"):
            use()
    assert (tmp_path / "secret").exists()


def test_hosts_that_begin_at_once_make_the_tables_once(root: SharedUrl) -> None:
    made: list[str] = []

    def begin() -> None:
        with Store.create(root, label="digits") as store:
            store.append(trial(0))
            made.append(store.id)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(run.id for run in Store.list(root))
    assert [run.trials for run in Store.list(root)] == [1] * 6


def test_without_the_right_to_its_folder_a_file_of_sqlite_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/runs.sqlite cannot be opened or written"):
        Store.list(runs_root(f"sqlite:///{tmp_path}/nowhere/runs.sqlite?blobs=b"))
