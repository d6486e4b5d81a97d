"""Runs killed or stopped in the middle of a training: the weights come out as if nothing had happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.command_line import Desk, Done, finished, read_until

# All that is measured is left out of what decides, so that two runs come to the same plans.
SAME = {
    "weights": "null", "rounds": "2", "pruning": "{protect: [stem, block.conv1]}",
    "target": "size=0.9x", "strategy": "uniform", "trials": "2", "checkpoint_s": "0",
    "reward": "{alpha: 1.0, beta: 0.0, gamma: 0.02, latency: 0.0}",
    "fine_tuning": "{finalists: 1, finalist_epochs: 1, epochs: 1, min_steps: 30, batch_size: 32, patience: 9, "
    "verify_images: 20}",
    "base_training": "{epochs: 1, batch_size: 32, patience: 9, evaluate_every: 0.3, sparsity: {l1: 1.0e-4}}",
}  # fmt: skip


def settled(desk: Desk, **changes: str) -> Desk:
    desk.thoroughly(channel_step=8).settings(**{**SAME, **changes})
    return desk


def weights(desk: Desk) -> dict[str, str]:
    """Return the SHA-256 of every artifact's weights."""
    run = desk.done("runs", "show", "latest", "--json").json
    assert run["status"] == "finished"
    return {artifact["id"]: artifact["files"]["weights.safetensors"] for artifact in run["artifacts"]}


def interrupted(desk: Desk, words: str, number: signal.Signals) -> None:
    """Start the run, or go on with it, and send a signal once a checkpoint of the training ``words`` is there.

    One is a new interpreter, with another order of sets.
    """
    again = ("--resume", "latest") if desk.runs.exists() else ("--config", "run.yaml")
    run = desk.start_cold("run", *again) if number == signal.SIGINT else desk.start("run", *again)
    read_until(run, words)
    while not list(desk.runs.glob("*/checkpoints/*.safetensors")):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.005)
    run.send_signal(number)
    assert finished(run).code in (130, -signal.SIGKILL)


@pytest.fixture(scope="module")
def straight(new_desk: Callable[[], Desk]) -> tuple[Desk, Done]:
    """A run of two rounds that nobody interrupted."""
    desk = settled(new_desk())
    return desk, desk.done("run", "--config", "run.yaml")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_in_trainings_of_both_rounds_a_run_comes_to_the_same_weights(
    straight: tuple[Desk, Done], new_desk: Callable[[], Desk]
) -> None:
    expected, torn = weights(straight[0]), settled(new_desk())
    assert [name for name in expected if name.endswith("-full")][-1].startswith("r2")

    interrupted(torn, "Train a base model", signal.SIGKILL)
    interrupted(torn, "Fine-tune finalist", signal.SIGINT)
    interrupted(torn, "round 2 of 2", signal.SIGKILL)
    done = torn.done("run", "--resume", "latest")
    assert "went on from its checkpoint at step" in done.err
    assert weights(torn) == expected
    assert not list(torn.runs.glob("*/checkpoints"))


UNKNOWN_LENGTH = {
    "rounds": "1", "base_training": "{epochs: 1, batch_size: 32}",
    "fine_tuning": "{finalists: 1, finalist_epochs: 0, max_epochs: 6, min_steps: 20, batch_size: 32, "
    "teacher_views: 2, verify_images: 20}",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_in_a_training_of_unknown_length_a_run_comes_to_the_same_weights(new_desk: Callable[[], Desk]) -> None:
    straight, torn = (settled(new_desk(), **UNKNOWN_LENGTH) for _ in range(2))
    told = straight.done("run", "--config", "run.yaml").err
    assert "trained until it stops helping, judged on " in told
    assert "on the images that judge" in told
    interrupted(torn, "Fine-tune the chosen one", signal.SIGKILL)
    done = torn.done("run", "--resume", "latest")
    assert "went on from its checkpoint at step" in done.err
    assert weights(torn) == weights(straight)


@pytest.mark.slow
def test_early_stopping_is_left_out_where_nothing_unseen_is_left(straight: tuple[Desk, Done]) -> None:
    _, done = straight
    assert done.err.count("no early stopping here: the search split") == 1
    assert done.err.index("no early stopping here") > done.err.index("round 2 of 2")
    trainings = 5  # the base model, and in each round a finalist, briefly and in full
    assert done.err.count("kept are the weights of step") == trainings - 1


def test_a_gpu_that_is_not_there_is_told_before_anything_is_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = settled(desk, accelerator="cuda").do("run", "--config", "run.yaml")
    assert done.code == 2
    assert "finds no GPU" in done.error
    assert not desk.runs.exists()
