"""Runs of a folder in a database: whole or not at all, once, and the folder as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.report.run_json import as_json
from pipeline.store import Store
from pipeline.store.facts import BASE, CONFIG, STARTED
from pipeline.store.place import migrated
from pipeline.store.shared.url import SharedUrl
from tests.examples import artifact, figures, measurement, trial
from tests.pipeline.store.shared.databases import sql


def filled(folder: Path, label: str, *, trials: int = 3) -> str:
    """Make a run with something in every table, a report, and a training that is not through; return its name."""
    with Store.create(folder, label=label, facts={CONFIG: {"data": "digits"}}) as store:
        store.set(BASE, figures())
        for index in range(trials):
            store.append(trial(index))
            store.remember(str(index), measurement(1.0 + index))
        store.add_artifact(artifact({"model.onnx": store.put_blob(label.encode())}, id="a2"))
        store.add_artifact(artifact({}, id="a1", chosen=False))
        store.checkpoint("base").write(b"half way")
        (store.path / "report.html").write_text(label)
        return store.id


def content(folder: Path) -> dict[str, bytes]:
    """Return every file, without what SQLite lays beside one that is read."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_run_is_copied_once_and_the_folder_stays(root: SharedUrl, tmp_path: Path) -> None:
    old = tmp_path / "old"
    names = [filled(old, label) for label in ("one", "two")]
    before = content(old)
    found = list(migrated(old, root))
    assert [(one.id, one.outcome) for one in found] == [(name, "copied") for name in names]
    assert [(one.trials, one.measurements, one.artifacts, one.blobs, one.files) for one in found] == [
        (3, 3, 2, 1, 2)
    ] * 2
    assert content(old) == before
    for name in names:
        with Store.open(old, name) as there, Store.open(root, name) as here:
            assert as_json(here) == as_json(there)
            assert [here.recall(key) for key in here.measured("")] == [there.recall(key) for key in there.measured("")]
            blob = here.artifacts()[0].files["model.onnx"]
            assert here.blob(blob).read_bytes() == there.blob(blob).read_bytes()
            assert (here.path / "report.html").read_text() == (there.path / "report.html").read_text()
    assert Store.list(root) == Store.list(old)
    with Store.open(root, names[0], write=True) as here:
        assert here.checkpoint("base").read() == b"half way"
        here.append(trial(3))
        here.add_artifact(artifact({}, id="a3", chosen=False))
        assert [one.id for one in here.artifacts()] == ["a2", "a1", "a3"]
    assert [one.outcome for one in migrated(old, root)] == ["there already"] * 2
    with Store.open(root, names[0]) as here:
        assert len(here.trials()) == 4


def test_what_cannot_be_copied_is_left_out_with_the_reason_and_hides_no_other(root: SharedUrl, tmp_path: Path) -> None:
    old = tmp_path / "old"
    good, garbled, torn, twin = (filled(old, label) for label in ("good", "garbled", "torn", "twin"))
    (old / garbled / "run.sqlite").write_bytes(b"\xff" * 5000)
    (blob,) = (old / torn / "blobs").glob("??/*")
    blob.write_bytes(b"other")
    first = {one.id: one for one in migrated(old, root)}
    assert (first[good].outcome, first[twin].outcome) == ("copied", "copied")
    assert "is damaged" in first[garbled].why
    assert "is damaged: its content has the SHA-256" in first[torn].why
    with Store.open(old, twin, write=True) as other:
        other.set(STARTED, "2020-01-01T00:00:00+00:00")
    with Store.open(old, good, write=True):
        second = {one.id: one.why for one in migrated(old, root)}
    assert "it is being written" in second[good]
    assert "another run of the name" in second[twin]
    assert {run.id for run in Store.list(root)} == {good, twin}


def test_a_migration_that_ends_in_the_middle_of_a_run_leaves_whole_runs_and_goes_on(
    root: SharedUrl, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    names = [filled(old, label) for label in ("one", "two")]
    steps = migrated(old, root)
    next(steps)
    sql(root, "ALTER TABLE pipeline_files RENAME TO away")  # the last one that is filled
    with pytest.raises(StoreError, match="cannot be used"):
        next(steps)
    sql(root, "ALTER TABLE away RENAME TO pipeline_files")
    assert [(run.id, run.trials) for run in Store.list(root)] == [(names[0], 3)]
    assert [one.outcome for one in migrated(old, root)] == ["there already", "copied"]


def test_a_folder_that_is_not_there_is_said(root: SharedUrl, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere cannot be used: No such file"):
        list(migrated(tmp_path / "nowhere", root))
