"""One run on the disk: what is put in comes out, also after the worst."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import serialization
from pipeline.errors import StoreError
from pipeline.records import PruningPlan
from pipeline.report.run_json import as_json
from pipeline.store import Store
from pipeline.store.facts import BASE, CHOSEN, CONFIG, FINISHED_AT, SECONDS, SEED, STARTED
from tests.examples import artifact, failed_trial, figures, measurement, power, trial
from tests.variations import one_in


@pytest.fixture
def store(tmp_path: Path):
    with Store.create(tmp_path, label="digits-local") as store:
        yield store


def reopen(store: Store, *, write: bool = False) -> Store:
    return Store.open(store.path.parent, store.id, write=write)


# ---------------------------------------------------------------- facts and records


def test_facts_come_back_and_absent_ones_give_the_default(store: Store) -> None:
    store.set(CONFIG, {"model": "resnet20", "target": ["latency=0.5x"]})
    assert store.get(CONFIG) == {"model": "resnet20", "target": ["latency=0.5x"]}
    assert store.get(SEED) is None


def test_a_fact_may_be_a_record(store: Store) -> None:
    store.set(BASE, figures())
    assert store.get(BASE) == figures()


def test_setting_a_fact_again_replaces_it(store: Store) -> None:
    store.set(CHOSEN, "a1")
    store.set(CHOSEN, "a2")
    assert store.get(CHOSEN) == "a2"


@pytest.mark.parametrize("value", [float("nan"), {"model": Path("x")}], ids=["nan", "path"])
def test_a_fact_that_json_cannot_say_is_refused_by_name(store: Store, value: object) -> None:
    with pytest.raises(StoreError, match="the fact 'seconds' cannot be stored"):
        store.set(SECONDS, value)


def test_trials_come_back_whole_and_by_index(store: Store) -> None:
    both = [trial(2, measurement=measurement(power=power())), failed_trial(1)]
    for one in both:
        store.append(one)
    assert store.trials() == both[::-1]


def test_a_trial_is_stored_once(store: Store) -> None:
    store.append(trial(3))
    with pytest.raises(StoreError, match=r"trial 3 of run .* is stored already"):
        store.append(trial(3))


def test_a_trial_with_a_figure_that_is_no_number_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="the trial 1 cannot be stored"):
        store.append(trial(1, reward=float("nan")))
    assert store.trials() == []


def test_a_measurement_is_recalled_by_its_channel_counts(store: Store) -> None:
    assert store.recall("8-4") is None
    store.remember("8-4", measurement(1.0))
    store.remember("8-4", measurement(2.0))
    assert store.recall("8-4") == measurement(2.0)


def test_artifacts_keep_their_order_and_are_replaced_by_id(store: Store) -> None:
    first, second = artifact({}, id="a1"), artifact({}, id="a2", chosen=False)
    for one in (first, second, replace(first, chosen=False)):
        store.add_artifact(one)
    assert store.artifacts() == [replace(first, chosen=False), second]


# ---------------------------------------------------------------- best and Pareto


def test_an_empty_run_has_no_best_and_no_front(store: Store) -> None:
    assert store.best() is None
    assert store.pareto() == []


def test_a_run_of_failures_has_no_best_and_no_front(store: Store) -> None:
    for index in range(3):
        store.append(failed_trial(index))
    assert store.best() is None
    assert store.pareto() == []


def test_the_best_is_the_highest_reward_among_the_feasible(store: Store) -> None:
    store.append(trial(1, reward=0.5))
    store.append(trial(2, reward=0.9, feasible=False))
    store.append(trial(3, reward=-0.7))
    store.append(trial(4, reward=0.5))
    best = store.best()
    assert best is not None
    assert best.index == 1


def test_the_front_holds_what_no_trial_beats(store: Store) -> None:
    store.append(trial(1, accuracy=0.95, p50_ms=2.0))
    store.append(trial(2, accuracy=0.90, p50_ms=1.0))
    store.append(trial(3, accuracy=0.89, p50_ms=1.5))  # beaten by 2
    store.append(trial(4, accuracy=0.90, p50_ms=1.0))  # equal to 2
    store.append(trial(5, accuracy=0.99, p50_ms=0.1, failure="outputs differ"))
    assert [t.index for t in store.pareto()] == [1, 2]


# ---------------------------------------------------------------- writers, readers, status


def test_a_run_is_running_while_it_is_open_and_interrupted_when_it_was_closed_unfinished(store: Store) -> None:
    with reopen(store) as reader:
        assert (store.status, reader.status) == ("running", "running")
        store.close()
        assert reader.status == "interrupted"


def test_a_failed_run_is_running_again_when_somebody_goes_on_with_it(store: Store) -> None:
    store.finish("failed")
    store.close()
    with reopen(store) as reader:
        assert reader.status == "failed"
        assert reader.get(FINISHED_AT) > reader.get(STARTED)
    with reopen(store, write=True) as again:
        assert again.status == "running"
        assert again.get(FINISHED_AT) is None


def test_a_finished_run_stays_finished_even_when_it_is_opened_to_write(store: Store) -> None:
    store.finish()
    store.close()
    with reopen(store, write=True) as again:
        assert again.status == "finished"
        assert again.get(FINISHED_AT) is not None


def test_a_second_writer_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    with writing_child(tmp_path, "print(store.id, flush=True); time.sleep(60)") as child:
        run_id = read_line(child)
        with pytest.raises(StoreError, match=f"is being written by process {child.pid}; .*kill {child.pid}"):
            Store.open(tmp_path, run_id, write=True)
        child.kill()
        child.wait()
        Store.open(tmp_path, run_id, write=True).close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder of runs, and the run in it that another process writes."""
    folder = tmp_path_factory.mktemp("written")
    with writing_child(folder, "print(store.id, flush=True); time.sleep(600)") as child:
        try:
            yield folder, read_line(child)
        finally:
            child.kill()


@pytest.mark.parametrize("said", one_in(3, ["", "?", "-1", "9" * 31, "0.5", str(2**31 - 1)]))
def test_a_second_writer_is_not_told_to_kill_what_is_no_process(written: tuple[Path, str], said: str) -> None:
    folder, run_id = written
    (lock,) = folder.rglob("lock")
    lock.write_text(said)
    with pytest.raises(StoreError, match="is being written by a process that this machine does not know") as caught:
        Store.open(folder, run_id, write=True)
    assert "kill" not in str(caught.value)


def test_a_reader_may_not_write(store: Store) -> None:
    with reopen(store) as reader, pytest.raises(StoreError, match="opened for reading"):
        reader.set(CHOSEN, "a1")


def test_a_reader_sees_every_trial_the_writer_has_stored_while_it_writes(store: Store) -> None:
    seen: list[int] = []

    def read() -> None:
        with reopen(store) as reader:
            while not seen or seen[-1] < 60:
                found = [t.index for t in reader.trials()]
                assert found == list(range(len(found)))
                seen.append(len(found))

    thread = threading.Thread(target=read)
    thread.start()
    for index in range(60):
        store.append(trial(index))
    thread.join(timeout=30)
    assert seen[-1] == 60
    assert seen == sorted(seen)


def test_several_threads_may_append(store: Store) -> None:
    numbers = itertools.count()

    def work() -> None:
        for _ in range(20):
            store.append(trial(next(numbers)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.trials()) == 80


def test_asking_for_the_status_never_keeps_a_writer_out(store: Store) -> None:
    store.close()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            Store.list(store.path.parent)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(20):
            reopen(store, write=True).close()
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------- the worst


def test_killed_in_the_middle_of_appending_it_loses_at_most_the_trial_being_written(tmp_path: Path) -> None:
    body = """
        print(store.id, flush=True)
        for index in range(100000):
            store.remember(str(index), measurement())
            store.append(trial(index))
            print(index, flush=True)
    """
    with writing_child(tmp_path, body) as child:
        run_id = read_line(child)
        acknowledged = [int(read_line(child)) for _ in range(50)]
        child.kill()
        rest, _ = child.communicate()
        acknowledged += [int(word) for word in rest.split("\n")[:-1]]
    with Store.open(tmp_path, run_id) as reader:
        assert reader.status == "interrupted"
    with Store.open(tmp_path, run_id, write=True) as store:
        indices = [t.index for t in store.trials()]
        assert indices[: len(acknowledged)] == acknowledged
        assert len(indices) - len(acknowledged) in (0, 1)
        assert all(store.recall(str(index)) == measurement() for index in acknowledged)
        store.append(trial(len(indices)))


def test_a_newer_schema_is_refused_with_both_versions(store: Store) -> None:
    store.close()
    with sqlite3.connect(store.path / "run.sqlite") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match=r"schema 99, written by a newer program; this one reads up to 1: upgrade"):
        reopen(store)


def test_a_damaged_file_is_said_to_be_damaged(store: Store) -> None:
    store.close()
    (store.path / "run.sqlite").write_bytes(b"no database " * 400)
    for write in (False, True):
        with pytest.raises(StoreError, match="is damaged"):
            reopen(store, write=write)


def test_an_empty_file_is_said_to_be_damaged(store: Store) -> None:
    store.close()
    (store.path / "run.sqlite").write_bytes(b"")
    with pytest.raises(StoreError, match="is damaged: it holds no run"):
        reopen(store)


def test_a_fact_larger_than_any_is_said_when_the_run_is_opened(store: Store) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(store.path / "run.sqlite")) as database:
        database.execute("INSERT OR REPLACE INTO facts VALUES ('input', quote(zeroblob(3000000)))")
        database.commit()
    with pytest.raises(StoreError, match="its fact 'input' has more than"):
        reopen(store)


def test_a_page_overwritten_in_the_middle_is_said_to_be_damaged(store: Store) -> None:
    for index in range(50):
        store.append(trial(index))
    store.close()
    path = store.path / "run.sqlite"
    data = bytearray(path.read_bytes())
    data[8192:-4096] = b"\xff" * (len(data) - 8192 - 4096)
    path.write_bytes(data)
    with reopen(store) as reader, pytest.raises(StoreError, match="is damaged"):
        reader.trials()


@pytest.mark.parametrize(
    "value", ["NULL", "7", "x'00ff'", "CAST(x'c2c2' AS TEXT)", "quote(zeroblob(3000000))", "zeroblob(80000000)"]
)
def test_a_record_of_another_type_or_size_is_said_to_be_damaged(store: Store, value: str) -> None:
    store.append(trial(0))
    store.close()
    with contextlib.closing(sqlite3.connect(store.path / "run.sqlite")) as database:
        database.execute("CREATE TABLE other AS SELECT * FROM trials")
        database.execute(f"UPDATE other SET json = {value}")
        database.execute("DROP TABLE trials")
        database.execute("ALTER TABLE other RENAME TO trials")
        database.commit()
    with reopen(store) as reader, pytest.raises(StoreError, match=r"is damaged|cannot be used"):
        reader.trials()


def test_a_record_that_cannot_be_read_is_named(store: Store) -> None:
    store.append(trial(7))
    with sqlite3.connect(store.path / "run.sqlite") as other:
        other.execute("UPDATE trials SET json = '{\"index\": 7}'")
    other.close()
    with pytest.raises(StoreError, match="its trial 7 cannot be read"):
        store.trials()


def test_using_a_closed_run_is_a_store_error(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="cannot be used"):
        store.trials()


def test_a_full_disk_says_where_and_how_much_is_free_and_keeps_what_was_stored(small_disk: Path) -> None:
    with Store.create(small_disk, label="digits") as store:
        with pytest.raises(StoreError, match=r"no room left to write .*run\.sqlite: \d\.\d MB are free .* resume"):
            append_without_end(store)
        indices = [t.index for t in store.trials()]
        assert len(indices) > 10
        assert indices == list(range(len(indices)))


def test_a_blob_on_a_full_disk_leaves_nothing_behind(small_disk: Path) -> None:
    with Store.create(small_disk, label="digits") as store:
        with pytest.raises(StoreError, match=r"no room left to write .*blobs"):
            store.put_blob(b"x" * 4_000_000)
        assert list((store.path / "blobs").iterdir()) == []
        store.set(CHOSEN, "alive")


def test_a_run_that_cannot_begin_for_want_of_room_leaves_no_folder(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(b"x" * 4_000_000)
    with pytest.raises(StoreError, match="no room left"):
        Store.create(small_disk / "runs", label="digits")
    assert Store.list(small_disk / "runs") == []


def test_a_read_only_folder_can_be_read_but_not_written(small_disk: Path, make_read_only) -> None:
    with Store.create(small_disk, label="digits") as store:
        store.append(trial(1))
        store.finish()
    make_read_only(small_disk)
    with Store.open(small_disk, "latest") as reader:
        assert [t.index for t in reader.trials()] == [1]
        assert reader.status == "finished"
    with pytest.raises(StoreError, match=r"cannot be opened or written .*Read-only"):
        Store.open(small_disk, "latest", write=True)
    with pytest.raises(StoreError, match=r"cannot be opened or written .*Read-only"):
        Store.create(small_disk, label="digits")


# ---------------------------------------------------------------- JSON


def test_a_run_is_shown_as_plain_values(store: Store) -> None:
    store.set(BASE, figures())
    store.append(trial(1, measurement=measurement(power=power())))
    store.append(failed_trial(2))
    store.add_artifact(artifact({"model.onnx": "ab" * 32}))
    shown = as_json(store)
    assert shown["id"] == store.id
    assert shown["status"] == "running"
    assert shown["base"]["parameters"] == 48_000
    assert [t["index"] for t in shown["trials"]] == [1, 2]
    assert shown["trials"][0]["plan"] == {"levels": [50, 75], "criterion": "l1", "zeros": []}
    assert shown["trials"][0]["measurement"]["power"]["source"] == "ina219"
    assert shown["trials"][1]["failure"] == "the runtime crashed"
    assert (shown["pareto"], shown["best"]) == ([1], 1)
    assert shown["artifacts"][0]["files"] == {"model.onnx": "ab" * 32}
    assert (shown["config"], shown["calibration"]) == (None, None)
    assert serialization.to_text(shown)


def test_an_empty_run_is_shown_too(store: Store) -> None:
    shown = as_json(store)
    assert (shown["trials"], shown["pareto"], shown["best"], shown["artifacts"]) == ([], [], None, [])


def test_plans_of_any_length_are_stored(store: Store) -> None:
    long = trial(1, plan=PruningPlan(levels=(25,) * 500))
    store.append(long)
    assert store.trials() == [long]


# ---------------------------------------------------------------- helpers


def append_without_end(store: Store) -> None:
    for index in itertools.count():
        store.append(trial(index, terms={str(n): 1.0 for n in range(500)}))


def writing_child(root: Path, body: str) -> subprocess.Popen[str]:
    """A real process that creates a run under ``root`` and executes ``body``."""
    script = f"""
import sys, time
from pathlib import Path
from pipeline.store import Store
from tests.examples import measurement, trial
store = Store.create(Path({str(root)!r}), label="child")
{textwrap.dedent(body)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()
