"""Candidates and finalists come to the same bits whichever process computes them, and whatever happens to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.agent_client import Agent
from pipeline.errors import StoppedError
from pipeline.events import Note, Working
from pipeline.records import PruningPlan, Trial
from pipeline.run.successive_halving import Rung, rungs_of
from pipeline.store import Store
from pipeline.store.facts import CONFIG, RUNG
from pipeline.workers.executor import Executor, InProcess, in_order
from pipeline.workers.open import opened
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import Toy, took, toy_context

PLANS = ((50, 50), (75, 25), (25, 75))
Finalists = dict[str, tuple[str, float]]
"""Of each its weights' SHA-256, and its score."""


@pytest.fixture(scope="module", params=[2, pytest.param("ray", marks=pytest.mark.ray)])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with opened(request.param, threads=1, available=2, gpus=0, listen=lambda _: None) as workers:
        yield workers


@contextmanager
def begun(folder: Path, agent: Agent, workers: Executor) -> Iterator[Toy]:
    """Begin the run; each time it is the same one."""
    with Store.create(folder, label="toy", facts={CONFIG: {"data": "patterns"}}) as store:
        yield Toy(context=toy_context(store, agent, workers=workers, checkpoint_s=0.1))


@pytest.fixture
def toy(tmp_path: Path, null_agent: Agent, pool: Executor) -> Iterator[Toy]:
    """The run, with workers."""
    with begun(tmp_path, null_agent, pool) as toy:
        yield toy


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory, null_agent: Agent) -> Callable[..., Finalists]:
    """What the run comes to in this process, computed once for all that compare with it."""

    @cache
    def known(plans: tuple[tuple[int, int], ...] = PLANS, steps: int = 100) -> Finalists:
        with begun(tmp_path_factory.mktemp("in-process"), null_agent, InProcess()) as toy:
            return trained(toy, plans, steps)

    return known


def trained(toy: Toy, plans: Sequence[tuple[int, int]] = PLANS, steps: int = 100) -> Finalists:
    """Train finalists up to the end of their rung."""
    trials, rungs = [toy.trial(n, levels, took(0.4)) for n, levels in enumerate(plans)], one_rung(toy, steps)
    scores = {toy.finals.name(trial): score() for trial, score in toy.finals.climb(trials, rungs, 0)}
    return {name: (toy.context.store.required(RUNG.of(name))["weights"], score) for name, score in scores.items()}


def one_rung(toy: Toy, steps: int) -> tuple[Rung, ...]:
    told = toy.context.config.fine_tuning.model_copy(update={"finalists": 3, "min_steps": 2 * steps})
    return rungs_of(told, 3, seed=0)


def test_finalists_are_trained_to_the_same_weights_in_the_same_order(
    toy: Toy, in_process: Callable[..., Finalists]
) -> None:
    found = trained(toy)
    assert found == in_process()
    assert list(found) == ["r1t0", "r1t1", "r1t2"]
    assert len({weights for weights, _ in found.values()}) == 3


def test_candidates_are_the_same_to_the_byte(toy: Toy, tmp_path: Path, null_agent: Agent) -> None:
    def built(toy: Toy) -> list[tuple[Any, ...]]:
        search, plans = toy.search(), [PruningPlan(levels=levels) for levels in PLANS]
        begun = in_order(toy.context.workers, lambda plan: search._built(plan, "a candidate"), plans)
        return [(made.candidate, made.skeleton) for _, future in begun for made in [future.result()]]

    with begun(tmp_path / "here", null_agent, InProcess()) as here:
        assert built(toy) == built(here)


def test_trials_are_stored_in_the_order_of_submission(toy: Toy) -> None:
    assert [trial.index for trial in toy.search().trials()] == [0, 1, 2]
    assert [trial.index for trial in toy.context.store.trials()] == [0, 1, 2]


def test_a_worker_that_is_killed_in_mid_training_comes_to_the_same_weights(
    toy: Toy, in_process: Callable[..., Finalists]
) -> None:
    said: list[str] = []
    killed: list[int] = []

    def hear(event: Any) -> None:
        if isinstance(event, Note):
            said.append(event.text)
        if isinstance(event, Working) and event.done >= 100 and not killed:
            workers: dict[int, Any] = toy.context.workers._workers  # type: ignore[attr-defined]
            killed.append(next(worker.pid for worker, _ in workers.values() if worker.name == event.worker))
            os.kill(killed[0], signal.SIGKILL)

    listening = Toy(context=replace(toy.context, listen=hear))
    assert trained(listening, PLANS[:2], 400) == in_process(PLANS[:2], 400)
    assert len(killed) == 1
    assert any("was lost: " in text and "is done again (2 of 3)" in text for text in said)
    assert any("the training went on from its checkpoint" in text for text in said)


def test_stopped_in_mid_training_and_resumed_elsewhere_it_comes_to_the_same_weights(
    toy: Toy, in_process: Callable[..., Finalists]
) -> None:
    asked: list[Trial] = []

    def hear(event: Any) -> None:
        if isinstance(event, Working) and event.done == 5:
            asked.append(event)

    listening = Toy(context=replace(toy.context, listen=hear, stopping=lambda: bool(asked)))
    with pytest.raises(StoppedError):
        trained(listening)
    resumed = Toy(context=replace(toy.context, workers=InProcess()))
    assert trained(resumed) == in_process()


def test_progress_says_which_worker_trains_what(toy: Toy) -> None:
    heard: list[Any] = []
    listener = Listener()

    def hear(event: Any) -> None:
        heard.append(event)
        listener(event)

    trained(Toy(context=replace(toy.context, listen=hear)))
    work = {(event.worker, event.what) for event in heard if isinstance(event, Working) and event.total}
    assert {what for _, what in work} == {f"Fine-tune finalist {n}" for n in range(3)}
    assert {worker.partition(" on ")[0] for worker, _ in work} <= {"worker 1", "worker 2"}
    assert listener.steps["Fine-tune 3 finalists side by side"] == 3
