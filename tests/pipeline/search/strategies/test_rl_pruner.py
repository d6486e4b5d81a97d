from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from _common.toys import play, problem, trial_of

from pipeline.config import FineTuningConfig, RunConfig
from pipeline.search.strategies import rl_pruner
from tests.pipeline.search.strategies import peers


@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_masks, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(rl_pruner)


def test_the_distribution_begins_in_proportion_to_the_channels() -> None:
    strategy = rl_pruner.create(problem((0, 0, 0)))
    assert strategy.distribution == pytest.approx(np.array([16, 32, 64]) / 112)


def test_an_update_goes_towards_the_best_row_and_no_further_than_the_clip() -> None:
    told = problem((1,) * 6, trials=30, seed=4)
    strategy = rl_pruner.create(told)
    strategy._epsilon = lambda: 0.0  # type: ignore[method-assign]
    for index in range(30):
        before = strategy.distribution
        strategy.tell(trial_of(told, index, strategy.ask()))
        moved = strategy.distribution
        if (index + 1) % 5:
            assert moved is before
            continue
        best = strategy._buffer[0][1]
        if not np.allclose(moved, strategy._channels / strategy._channels.sum()):
            assert np.abs(best - moved).sum() < np.abs(best - before).sum()
        assert (moved / before < 1 + rl_pruner.Settings().clip + 0.1).all()
        assert moved.sum() == pytest.approx(1.0)
        assert len(strategy._buffer) == 5


def test_what_should_be_left_alone_gets_a_smaller_share_in_time() -> None:
    told = problem((1,) * 4, trials=60, seed=0)
    strategy = rl_pruner.create(told)
    before = strategy.distribution
    for index in range(60):
        plan = strategy.ask()
        trial = trial_of(told, index, plan)
        strategy.tell(peers.replace(trial, reward=1.0 - plan.levels[1] / 100 + trial.reward / 10))  # type: ignore[operator]
    assert strategy.distribution[1] < before[1]


def test_a_collapse_of_the_accuracy_begins_again() -> None:
    told = problem((1,) * 4, trials=30)
    strategy = rl_pruner.create(told)
    first = strategy.distribution
    for index in range(10):
        trial = trial_of(told, index, strategy.ask())
        assert trial.candidate is not None
        accuracy = 0.9 if index < 5 else 0.5
        strategy.tell(peers.replace(trial, candidate=peers.replace(trial.candidate, accuracy=accuracy)))
        if index == 4:
            assert not np.allclose(strategy.distribution, first)
    np.testing.assert_allclose(strategy.distribution, first)


def test_a_sample_is_cut_no_deeper_than_the_target_asks() -> None:
    told = problem((1,) * 6, trials=30)
    strategy = rl_pruner.create(told)
    for _ in range(3):
        levels = np.array(strategy._cut(strategy._sampled(rl_pruner.Settings().noise)))
        cost = told.costs.tables["latency"].predict(levels[None])[0]
        assert 0.3 < cost <= 0.5 + 1e-9  # one level of one group weighs some 4 to 16 %


@pytest.mark.parametrize(("criterion", "mix", "says"), [
    ("taylor", 0.5, None), ("l1", 0.5, "--criterion taylor"), ("taylor", 0.0, "teacher_mix"),
])  # fmt: skip
def test_its_note_says_what_rl_pruner_itself_would_set(criterion: str, mix: float, says: str | None) -> None:
    told = rl_pruner.note(RunConfig(criterion=criterion, rounds=2, fine_tuning=FineTuningConfig(teacher_mix=mix)))
    assert (told is None) if says is None else (says in str(told))
    assert "prunes in steps, with fine-tuning between them (--rounds 4" in str(rl_pruner.note(RunConfig()))


def test_the_next_round_begins_with_the_distribution_that_this_one_came_to() -> None:
    told = problem((0, 0, 0), trials=12, seed=4)
    strategy = rl_pruner.create(told)
    for index in range(told.trials):
        strategy.tell(trial_of(told, index, strategy.ask()))
    carried = strategy.carried()
    assert list(carried) == [group.name for group in told.space.groups]
    following = replace(told, carried=carried)
    assert rl_pruner.create(following).distribution == pytest.approx(strategy.distribution)
    anew = rl_pruner.create(replace(following, settings=rl_pruner.Settings(carry=False)))
    assert anew.distribution == pytest.approx(np.array([16, 32, 64]) / 112)


def test_it_finds_plans_within_the_target_on_every_seed() -> None:
    for seed in range(2):
        told = problem((1,) * 6, trials=20, seed=seed)
        assert play(told, rl_pruner.create(told))[1] > 0
