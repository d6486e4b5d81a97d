"""The finals after a search: rung by rung, resumed in the middle of one, and with trainings that diverge."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import serialization
from pipeline.config import RunConfig
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import CandidateError, StoppedError, TargetError
from pipeline.records import Interval, Measurement, MeasureSettings, Trial
from pipeline.run.runner import execute, prepared
from pipeline.run.selection import pick_finalists
from pipeline.run.splitting import stored_splits
from pipeline.store import Store
from pipeline.store.facts import CHOSEN, CONFIG
from pipeline.training.checkpoint import State
from tests.command_line import Desk
from tests.pipeline.cli.listening import Listener

LIMITS = {"latency": 0.5}
PROCESSES = range(1, MeasureSettings().processes + 1)


@pytest.fixture
def store(desk: Desk, ran: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The finished run as it was after the search; every finalist's whole file is known to meet the target."""
    shutil.copytree(ran.runs, desk.runs)
    (folder,) = desk.runs.iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("DELETE FROM artifacts")
        database.execute("DELETE FROM facts WHERE key IN ('chosen', 'finished', 'winner 1') OR key LIKE 'rung %'")
    monkeypatch.chdir(desk.folder)
    threads = torch.get_num_threads()
    with Store.open(desk.runs, folder.name, write=True) as store:
        meet(store, pick_finalists(store.trials(), LIMITS))
        yield store
    torch.set_num_threads(threads)


def meet(store: Store, trials: Sequence[Trial]) -> None:
    """Have trials meet the target beyond doubt, as candidates and as whole files."""
    for trial in trials:
        met = took(trial, Interval(0.4, 0.4, 0.4))
        change(store, trial, feasible=True, measurement=met)
        for name in (f"r1t{trial.index}", f"r1t{trial.index}-full"):
            for process in PROCESSES:
                store.remember(f"1:whole:{name} process {process}", met)


def took(trial: Trial, ratio: Interval) -> Measurement:
    assert trial.measurement is not None
    return replace(trial.measurement, ratio=ratio, flags=())


def change(store: Store, trial: Trial, **changes: Any) -> None:
    """Change what a stored trial came to."""
    text = json.dumps(serialization.dump(replace(trial, **changes)))
    with sqlite3.connect(store.path / "run.sqlite") as database:
        database.execute("UPDATE trials SET json = ? WHERE number = ?", (text, trial.index))


@pytest.fixture
def finals(store: Store) -> Store:
    """The same, where four networks meet the target."""
    meet(store, [trial for trial in store.trials() if trial.measurement is not None])
    assert len(pick_finalists(store.trials(), LIMITS)) >= 4
    return store


def go_on(store: Store, listener: Listener, **recovery: Any) -> None:
    told = RunConfig.model_validate(store.get(CONFIG))
    config = told.model_copy(update={"fine_tuning": told.fine_tuning.model_copy(update={"min_steps": 8, **recovery})})
    board = load_inventory(Path("inventory.yaml")).device("local")
    with prepared(config, board, listen=listener, weights_known=True, splits=stored_splits(store)) as ready:
        execute(ready, store, listen=listener, stopping=lambda: listener.asked)


def test_a_finalist_that_diverges_is_left_out_and_the_next_takes_its_turn(store: Store) -> None:
    first, *others = [trial.index for trial in pick_finalists(store.trials(), LIMITS)]
    with pytest.raises(StoppedError):
        go_on(store, Listener(stop_in=f"Fine-tune finalist {first}"))
    slot = store.checkpoint(f"r1t{first}")
    state = State.from_bytes(slot.read() or b"")
    spoilt = {"model/fc.weight": torch.full_like(state.tensors["model/fc.weight"], 1e38)}
    slot.write(replace(state, tensors=state.tensors | spoilt).to_bytes())

    listener = Listener()
    go_on(store, listener)
    (told,) = [note for note in listener.notes if "left out" in note]
    assert told.startswith(f"finalist r1t{first} failed and is left out: training diverged: the ")
    assert "lower the learning rate (now 0.03)" in told
    assert store.get(CHOSEN) in [f"r1t{other}-full" for other in others]
    assert not (store.path / "checkpoints").exists()


def test_where_all_finalists_diverge_the_run_fails_and_says_so(store: Store) -> None:
    listener = Listener()
    with pytest.raises(CandidateError) as failed:
        go_on(store, listener, learning_rate=1e30, warmup=0.0)
    ranked = pick_finalists(store.trials(), LIMITS)
    assert str(failed.value).startswith(
        f"no finalist is left: {len(ranked)} of {len(ranked)} failed; the first that failed was r1t{ranked[0].index}: "
        "training diverged: the "
    )
    assert sum("failed and is left out" in note for note in listener.notes) == len(ranked)
    assert store.artifacts() == []


def unsure(store: Store, trial: Trial, again: float) -> None:
    """Have a trial's interval reach over the target, and all processes of a longer measurement find a ratio."""
    with sqlite3.connect(store.path / "run.sqlite") as database:
        same = ("SELECT key FROM measurements WHERE key LIKE '1:structure %' AND key NOT LIKE '% again%' AND json = "
                "(SELECT json FROM measurements WHERE key = ?)")  # fmt: skip
        ((structure,),) = database.execute(same, (f"1:{trial.key}",)).fetchall()
    for process in PROCESSES:
        store.remember(f"{structure} again process {process}", took(trial, Interval(again, again, again)))
    change(store, trial, measurement=took(trial, Interval(0.49, 0.47, 0.51)))


def test_a_candidate_that_may_miss_the_target_is_measured_longer_before_it_is_trained(finals: Store) -> None:
    best, second, *_ = pick_finalists(finals.trials(), LIMITS)
    unsure(finals, best, again=0.53)
    unsure(finals, second, again=0.45)
    listener = Listener()
    go_on(finals, listener, finalists=1)
    (told,) = [note for note in listener.notes if "left out" in note]
    assert told.startswith(f"candidate {best.index} misses the target, measured longer (0.530×")
    assert not any(f"r1t{best.index}" in name for name in rung_by_rung(finals))
    assert finals.get(CHOSEN) == f"r1t{second.index}-full"
    (first, _) = finals.artifacts()
    assert first.before.measurement.ratio is not None
    assert first.before.measurement.ratio.value == pytest.approx(0.45)  # what it was picked by is low by luck


def test_where_no_candidate_holds_when_measured_longer_the_run_says_so(store: Store) -> None:
    for trial in pick_finalists(store.trials(), LIMITS):
        unsure(store, trial, again=0.6)
    with pytest.raises(TargetError) as failed:
        go_on(store, Listener())
    assert " trials met latency=" in str(failed.value)
    assert ", none when measured longer; allow more --trials, or a looser target" in str(failed.value)


HALVING = {"finalists": 4, "halving": 2, "finalist_epochs": 0.2}


def rung_by_rung(store: Store) -> dict[str, float]:
    """Return each training's accuracy on the validation split."""
    with sqlite3.connect(store.path / "run.sqlite") as database:
        found = database.execute("SELECT key, json FROM facts WHERE key LIKE 'rung %'").fetchall()
    return {key.removeprefix("rung "): json.loads(text)["validation_accuracy"] for key, text in found}


def test_the_better_half_goes_on_and_only_whole_files_of_the_last_rung_are_measured(finals: Store) -> None:
    listener = Listener()
    go_on(finals, listener, **HALVING)
    scores = rung_by_rung(finals)
    first = sorted((name for name in scores if name.endswith("-rung1")), key=lambda name: -scores[name])
    last = [name for name in scores if not name.endswith("-rung1")]
    assert (len(first), len(last)) == (4, 2)
    assert min(scores[f"{name}-rung1"] for name in last) >= scores[first[2]]
    artifacts = {artifact.id: artifact for artifact in finals.artifacts()}
    assert set(artifacts) == {*last, finals.get(CHOSEN)}
    assert {name: artifacts[name].validation_accuracy for name in last} == {name: scores[name] for name in last}
    assert scores[(finals.get(CHOSEN) or "").removesuffix("-full")] == max(scores[name] for name in last)
    assert any("4 × " in note and ", then 2 × " in note for note in listener.notes)
    assert not (finals.path / "checkpoints").exists()


def test_stopped_between_and_within_rungs_the_finals_come_to_the_same_weights(finals: Store, tmp_path: Path) -> None:
    shutil.copytree(finals.path, tmp_path / "torn" / finals.id)
    go_on(finals, Listener(), **HALVING)
    expected = {artifact.id: artifact.files["weights.safetensors"] for artifact in finals.artifacts()}
    with Store.open(tmp_path / "torn", finals.id, write=True) as torn:
        trial = next(artifact.trial for artifact in finals.artifacts())
        for stage in (f"Fine-tune finalist {trial}, rung 1 of 2", f"Fine-tune finalist {trial}, rung 2 of 2"):
            with pytest.raises(StoppedError):
                go_on(torn, Listener(stop_in=stage), **HALVING)
        go_on(torn, Listener(), **HALVING)
        assert {artifact.id: artifact.files["weights.safetensors"] for artifact in torn.artifacts()} == expected
        assert rung_by_rung(torn) == rung_by_rung(finals)
