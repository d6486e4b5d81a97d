"""Finalists whose fine-tuning diverges: they are left out, the next ones take their turn."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.choosing import pick_finalists
from pipeline.config import RunConfig
from pipeline.errors import CandidateError, StoppedError
from pipeline.inventory import load_inventory
from pipeline.records import Interval
from pipeline.run import execute, prepared
from pipeline.splitting import stored_splits
from pipeline.store import Store
from pipeline.training.checkpoint import State
from tests.command_line import Desk
from tests.pipeline.cli.listening import Listener


@pytest.fixture
def store(desk: Desk, ran: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The finished run as it was after the search; every finalist's whole file is known to meet the target."""
    shutil.copytree(ran.runs, desk.runs)
    (folder,) = desk.runs.iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("DELETE FROM artifacts")
        database.execute("DELETE FROM facts WHERE key IN ('chosen', 'finished', 'winner 1')")
    monkeypatch.chdir(desk.folder)
    threads = torch.get_num_threads()
    with Store.open(desk.runs, folder.name, write=True) as store:
        for trial in pick_finalists(store.trials(), {}):
            assert trial.measurement is not None
            met = replace(trial.measurement, ratio=Interval(0.4, 0.4, 0.4))
            store.remember(f"1:whole:r1t{trial.index}", met)
            store.remember(f"1:whole:r1t{trial.index}-full", met)
        yield store
    torch.set_num_threads(threads)


def go_on(store: Store, listener: Listener, **recovery: Any) -> None:
    told = RunConfig.model_validate(store.get("config"))
    config = told.model_copy(update={"recovery": told.recovery.model_copy(update={"min_steps": 8, **recovery})})
    board = load_inventory(Path("inventory.yaml")).device("local")
    with prepared(config, board, listen=listener, weights_known=True, splits=stored_splits(store)) as ready:
        execute(ready, store, listen=listener, stopping=lambda: listener.asked)


def test_a_finalist_that_diverges_is_left_out_and_the_next_takes_its_turn(store: Store) -> None:
    first, *others = [trial.index for trial in pick_finalists(store.trials(), {"latency": 0.5})]
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
    assert store.get("chosen") in [f"r1t{other}-full" for other in others]
    assert not (store.path / "checkpoints").exists()


def test_where_all_finalists_diverge_the_run_fails_and_says_so(store: Store) -> None:
    listener = Listener()
    with pytest.raises(CandidateError) as failed:
        go_on(store, listener, learning_rate=1e30, warmup=0.0)
    ranked = pick_finalists(store.trials(), {"latency": 0.5})
    assert str(failed.value).startswith(
        f"no finalist is left: {len(ranked)} of {len(ranked)} failed; the first that failed was r1t{ranked[0].index}: "
        "training diverged: the "
    )
    assert sum("failed and is left out" in note for note in listener.notes) == len(ranked)
    assert store.artifacts() == []
