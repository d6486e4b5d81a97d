"""Which trials become finalists, in which order, which go on to the next rung, and which one is deployed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.devices.agent_client import Agent
from pipeline.errors import CandidateError, StoppedError
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.records import FULL, Interval, Trial
from pipeline.run.selection import batches, choose, pick_finalists
from pipeline.store import Store
from pipeline.store.facts import CONFIG, RUNG
from pipeline.training.checkpoint import State
from tests.examples import failed_trial, measurement, trial
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, Toy, took, toy_context, widths

LIMITS = {"latency": 0.5}


def candidate(index: int, reward: float, **changes: Any) -> Trial:
    return trial(index, key=f"k{index}", reward=reward, **changes)


def indices(trials: list[Trial]) -> list[int]:
    return [t.index for t in trials]


def test_the_best_reward_comes_first_and_equals_in_the_order_of_trial() -> None:
    trials = [candidate(0, 0.5), candidate(1, 0.9), candidate(2, 0.9)]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 2, 0]


def test_trials_that_failed_or_miss_a_target_are_no_finalists() -> None:
    trials = [failed_trial(0), candidate(1, 0.9, feasible=False), candidate(2, 0.1)]
    assert indices(pick_finalists(trials, LIMITS)) == [2]


@pytest.mark.parametrize(
    ("low", "high", "may"), [(0.49, 0.52, True), (0.501, 0.509, False), (math.nan, math.nan, False)]
)
def test_one_that_misses_the_latency_by_less_than_its_interval_may_become_one(
    low: float, high: float, may: bool
) -> None:
    near = measurement(ratio=Interval(0.505, low, high))
    trials = [candidate(0, 0.9, feasible=False, measurement=near), candidate(1, 0.5)]
    assert indices(pick_finalists(trials, LIMITS)) == ([0, 1] if may else [1])
    assert indices(pick_finalists(trials, {"energy": 0.5})) == [1]


def test_one_network_is_a_finalist_once() -> None:
    twice = [candidate(0, 0.9), trial(1, key="k0", reward=0.8)]
    assert len(pick_finalists(twice, LIMITS)) == 1


def test_an_imprecise_figure_is_no_reason_to_come_later() -> None:
    trials = [candidate(0, 0.2), candidate(1, 0.9, measurement=measurement(flags=("noisy",)))]
    assert indices(pick_finalists(trials, LIMITS)) == [1, 0]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (5, [3])])
def test_finalists_are_tried_so_many_at_a_time(count: int, sizes: list[int]) -> None:
    trials = [candidate(i, 0.5) for i in range(3)]
    assert [len(batch) for batch in batches(trials, count)] == sizes


def test_a_trial_is_looked_at_only_when_its_batch_has_its_turn() -> None:
    seen: list[int] = []
    trials = (seen.append(i) or candidate(i, 0.5) for i in range(3))  # type: ignore[func-returns-value]
    assert len(next(batches(trials, 2))) == 2
    assert seen == [0, 1]


def test_without_feasible_trials_there_are_no_finalists() -> None:
    assert pick_finalists([candidate(0, 0.9, feasible=False)], {}) == []
    assert list(batches([], 3)) == []


# ---------------------------------------------------------------- the finals

HALVING = {"finalists": 4, "reduction_factor": 2}


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def begin(new_store: Store, null_agent: Agent, heard: Listener) -> Callable[..., Toy]:
    return lambda **recovery: Toy(context=toy_context(new_store, null_agent, heard, fine_tuning=recovery))


@pytest.fixture(scope="module")
def four(null_agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Trials of four networks that meet the target, the best first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with Store.create(tmp_path_factory.mktemp("four"), label="four", facts={CONFIG: {"data": "patterns"}}) as store:
        toy = Toy(context=toy_context(store, null_agent))
        plans = ((25, 25), (50, 25), (50, 50), (75, 75))
        trials = [toy.trial(i, plan, took(0.4)) for i, plan in enumerate(plans)]
    torch.set_num_threads(threads)
    return trials


@pytest.fixture
def finalists(four: list[Trial]) -> Callable[..., list[Trial]]:
    """The four trials, whose whole files a toy is told to take so much of the base."""

    def known(toy: Toy, *, ratio: float = 0.4) -> list[Trial]:
        for one in four:
            for name in (f"r1t{one.index}", f"r1t{one.index}{FULL}"):
                toy.know_whole(name, took(ratio))
        return four

    return known


def rung_by_rung(toy: Toy) -> dict[str, float]:
    """Each training's accuracy on the validation split."""
    names = [f"r1t{index}{rung}" for index in range(4) for rung in ("-rung1", "")]
    known = {name: toy.context.store.get(RUNG.of(name)) for name in names}
    return {name: rung["validation_accuracy"] for name, rung in known.items() if rung is not None}


def test_the_better_half_goes_on_and_only_whole_files_of_the_last_rung_are_measured(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(**HALVING)
    chosen = choose(toy.finals, finalists(toy))
    scores = rung_by_rung(toy)
    first = sorted((name for name in scores if name.endswith("-rung1")), key=lambda name: -scores[name])
    last = [name for name in scores if not name.endswith("-rung1")]
    assert (len(first), len(last)) == (4, 2)
    assert min(scores[f"{name}-rung1"] for name in last) >= scores[first[2]]
    assert chosen is not None
    assert {artifact.id for artifact in toy.context.store.artifacts()} == {*last, chosen.id}
    assert scores[chosen.id.removesuffix(FULL)] == max(scores[name] for name in last)
    assert any("4 × " in note and ", then 2 × " in note for note in heard.notes)
    assert not (toy.context.store.path / "checkpoints").exists()


def test_stopped_between_and_within_rungs_the_finals_come_to_the_same_weights(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener, tmp_path: Path, null_agent: Agent
) -> None:
    toy = begin(**HALVING)
    whole = choose(toy.finals, finalists(toy))
    assert whole is not None
    with Store.create(tmp_path / "torn", label="torn", facts={CONFIG: {"data": "patterns"}}) as store:
        torn = Toy(context=toy_context(store, null_agent, heard, fine_tuning=HALVING))
        trials = finalists(torn)
        for rung in (1, 2):
            heard.stop_in = f"Fine-tune finalist {whole.trial}, rung {rung} of 2"
            with pytest.raises(StoppedError):
                choose(torn.finals, trials)
            heard.stop_in, heard.asked = None, False
        again = choose(torn.finals, trials)
        assert again is not None
        assert (again.id, again.files[WEIGHTS]) == (whole.id, whole.files[WEIGHTS])
        assert rung_by_rung(torn) == rung_by_rung(toy)


def test_a_finalist_that_diverges_is_left_out_and_the_next_takes_its_turn(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(finalists=1)
    trials = finalists(toy)
    heard.stop_in = "Fine-tune finalist 0"
    with pytest.raises(StoppedError):
        choose(toy.finals, trials)
    heard.stop_in, heard.asked = None, False
    slot = toy.context.store.checkpoint("r1t0")
    state = State.from_bytes(slot.read() or b"")
    spoilt = {"model/fc.weight": torch.full_like(state.tensors["model/fc.weight"], 1e38)}
    slot.write(replace(state, tensors=state.tensors | spoilt).to_bytes())

    chosen = choose(toy.finals, trials)
    assert chosen is not None
    assert chosen.id == "r1t1-full"
    (told,) = [note for note in heard.notes if "left out" in note]
    assert told.startswith("finalist r1t0 failed and is left out: training diverged: the ")
    assert "lower the learning rate (now 0.03)" in told
    assert not (toy.context.store.path / "checkpoints").exists()


def test_one_whose_file_the_device_refuses_is_left_out(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(finalists=1)
    trials = finalists(toy)
    narrow = NullFiles(toy.context.example, told=lambda net: {"refuse": "no"} if widths(net) == (6, 6) else {})
    chosen = choose(replace(toy.finals, context=replace(toy.context, format=narrow)), trials)
    assert chosen is not None
    assert chosen.id == "r1t1-full"
    assert any(note.startswith("finalist r1t0 failed and is left out: ") for note in heard.notes)


def test_where_all_finalists_diverge_the_run_fails_and_says_so(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(learning_rate=1e30, warmup=0.0)
    trials = finalists(toy)[:2]
    with pytest.raises(CandidateError, match="no finalist is left: 2 of 2 failed; the first that failed was r1t0: tra"):
        choose(toy.finals, trials)
    assert sum("failed and is left out" in note for note in heard.notes) == 2
    assert toy.context.store.artifacts() == []


def test_only_if_no_finalist_meets_the_target_as_a_file_have_the_next_best_their_turn(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(finalists=2)
    trials = finalists(toy)
    for name in ("r1t0", "r1t1"):
        toy.know_whole(name, took(0.6))
    chosen = choose(toy.finals, trials)
    assert chosen is not None
    assert chosen.trial in (2, 3)
    assert sum("misses the target as a whole file" in note for note in heard.notes) == 2


def test_one_that_misses_when_measured_longer_is_never_trained(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]], heard: Listener
) -> None:
    toy = begin(finalists=1)
    first, second, *_ = finalists(toy)
    unsure = [replace(trial, measurement=took(0.49, 0.03)) for trial in (first, second)]
    toy.know_again(toy.skeleton(first), took(0.53))
    toy.know_again(toy.skeleton(second), took(0.45))
    chosen = choose(toy.finals, unsure)
    assert chosen is not None
    assert chosen.id == "r1t1-full"
    assert chosen.before.measurement.ratio is not None
    assert chosen.before.measurement.ratio.value == pytest.approx(0.45)  # what it was picked by is low by luck
    assert [*rung_by_rung(toy)] == ["r1t1"]


def test_without_a_candidate_that_meets_the_target_there_is_nothing_to_deploy(
    begin: Callable[..., Toy], finalists: Callable[..., list[Trial]]
) -> None:
    toy = begin(finalists=1)
    assert choose(toy.finals, []) is None
    unsure = [replace(trial, measurement=took(0.49, 0.03)) for trial in finalists(toy)[:2]]
    for one in unsure:
        toy.know_again(toy.skeleton(one), took(0.6))
    assert choose(toy.finals, unsure) is None
