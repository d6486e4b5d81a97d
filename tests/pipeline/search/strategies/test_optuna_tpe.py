from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import optuna
import pytest
from _common.toys import play, problem
from optuna.trial import TrialState

from pipeline.records import LEVELS
from pipeline.search.strategies import optuna_tpe
from tests.pipeline.search.strategies import peers


@pytest.mark.slow
@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_masks, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(optuna_tpe)


@pytest.mark.slow
def test_it_beats_random_at_an_equal_budget() -> None:
    assert peers.beats_random(optuna_tpe)


def test_optuna_is_told_what_was_evaluated_not_what_it_suggested_and_its_log_is_as_before() -> None:
    before = optuna.logging.get_verbosity()
    told = problem((1, 1, 1, 0), trials=8)
    strategy = optuna_tpe.create(told)
    plans, _ = play(told, strategy)
    complete = strategy._study.get_trials(states=(TrialState.COMPLETE,))
    found = [
        tuple(
            LEVELS[own[trial.params[g.name]]]
            for g, own in zip(told.space.groups, strategy._repair.options, strict=True)
        )
        for trial in complete
    ]
    assert found == [plan.levels for plan in plans]
    assert not strategy._study.get_trials(states=(TrialState.RUNNING,))
    assert optuna.logging.get_verbosity() == before
