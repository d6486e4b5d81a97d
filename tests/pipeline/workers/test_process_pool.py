"""Worker processes: tasks sent, answered and told of; lost workers, stopped tasks, and nothing left behind."""

# ruff: noqa: ARG002 - the signature is that of a task

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import CutError, StoppedError, WorkerLostError
from pipeline.events import Note, StageProgress, Working
from pipeline.workers.executor import Executor, InProcess, Shared, in_order
from pipeline.workers.open import opened
from tests.pipeline.workers.tasks import Die, Multiply, Refuse, Steps

NUMBER = Shared(21)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with opened(2, threads=1, available=2, gpus=0, listen=lambda _: None) as workers:
        yield workers


def result(workers: Executor, task: Any, heard: list[object] | None = None, shared: Shared[Any] = NUMBER) -> Any:
    tell = (lambda _: None) if heard is None else heard.append
    return workers.submit(lambda: task, shared, what="the task", tell=tell).result(60)


def test_tasks_are_computed_in_other_processes(pool: Executor) -> None:
    futures = in_order(pool, lambda by: pool.submit(lambda: Multiply(by), NUMBER, what=f"{by}", tell=print), range(4))
    found = [future.result(60) for _, future in futures]
    assert [product for product, _ in found] == [0, 21, 42, 63]
    assert psutil.Process().pid not in {pid for _, pid in found}


def test_what_a_task_raises_is_raised_here(pool: Executor) -> None:
    with pytest.raises(CutError, match="the output's shape changed"):
        result(pool, Refuse(CutError("the output's shape changed")))
    with pytest.raises(ZeroDivisionError) as raised:
        result(pool, Refuse(ZeroDivisionError("of a library")))
    assert "in a worker" in raised.value.__notes__[0]


def test_another_shared_value_takes_the_place_of_the_last(pool: Executor) -> None:
    assert result(pool, Multiply(2), shared=Shared(4))[0] == 8
    assert result(pool, Multiply(2))[0] == 42


def test_a_lost_workers_task_is_done_again_and_said(pool: Executor, tmp_path: Path) -> None:
    heard: list[object] = []
    assert result(pool, Die(tmp_path, 2), heard) == "done after 2"
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert len(notes) == 2
    assert "was lost: it was killed" in notes[0]
    assert "the task is done again (2 of 3)" in notes[0]


def test_a_task_that_loses_every_worker_is_a_failed_candidate(pool: Executor, tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError, match="its worker was lost 3 times"):
        result(pool, Die(tmp_path, 3))
    assert result(pool, Multiply(2))[0] == 42


def test_it_says_which_worker_does_what(pool: Executor) -> None:
    heard: list[object] = []
    result(pool, Multiply(1), heard)
    begun, ended = heard
    assert isinstance(begun, Working)
    assert isinstance(ended, Working)
    assert begun.worker == ended.worker
    assert (begun.what, ended.what) == ("the task", "")


def test_what_hearing_it_raises_ends_a_task_that_puts_away_how_far_it_was(pool: Executor) -> None:
    heard: list[Any] = []

    def hear(event: Any) -> None:
        heard.append(event)
        if isinstance(event, Working) and event.done == 3:
            raise StoppedError("asked to stop")

    with pytest.raises(StoppedError, match="asked to stop"):
        pool.submit(Steps, NUMBER, what="steps", tell=hear).result(60)
    (put_away,) = [event for event in heard if isinstance(event, tuple)]
    assert put_away[1] >= 3
    assert heard[-1].what == ""


def test_closed_in_the_middle_of_tasks_it_leaves_no_process() -> None:
    heard: list[Any] = []
    before = set(psutil.Process().children(recursive=True))
    with opened(1, threads=1, available=1, gpus=0, listen=heard.append) as workers:
        running = workers.submit(Steps, NUMBER, what="steps", tell=heard.append)
        waiting = workers.submit(Steps, NUMBER, what="more steps", tell=heard.append)
        while not any(isinstance(event, Working) and event.done for event in heard):
            pass
    assert isinstance(running.exception(), StoppedError)
    assert waiting.cancelled()
    assert any(isinstance(event, tuple) for event in heard)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_in_this_process_a_task_is_through_when_it_is_submitted() -> None:
    heard: list[Any] = []
    future = InProcess().submit(lambda: Multiply(2), NUMBER, what="", tell=heard.append)
    assert future.result(0) == (42, psutil.Process().pid)
    with pytest.raises(CutError):
        InProcess().submit(lambda: Refuse(CutError("no")), NUMBER, what="", tell=heard.append).result(0)


def test_in_this_process_each_is_through_before_the_next_is_begun() -> None:
    order: list[str] = []

    def submitted(number: int) -> int:
        order.append(f"begin {number}")
        return number

    for number, _ in in_order(InProcess(), submitted, range(2)):
        order.append(f"end {number}")
    assert order == ["begin 0", "end 0", "begin 1", "end 1"]


def test_a_warning_in_a_worker_is_logged_here(pool: Executor, caplog: pytest.LogCaptureFixture) -> None:
    result(pool, Warns())
    assert ("pipeline.somewhere", logging.WARNING, "mind this") in caplog.record_tuples


class Warns:
    trains = False

    def __call__(self, inputs: Any, tell: Any) -> None:
        logging.getLogger("pipeline.somewhere").warning("mind %s", "this")


def test_progress_is_passed_on_as_it_is_in_this_process() -> None:
    heard: list[Any] = []

    def hear(event: Any) -> None:
        heard.append(event)
        if isinstance(event, StageProgress):
            raise StoppedError("at once")

    with pytest.raises(StoppedError):
        InProcess().submit(Steps, NUMBER, what="", tell=hear).result(0)
    assert heard[-1] == ("put away", 0)
