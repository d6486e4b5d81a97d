from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from pipeline.search.strategies import optuna_nsga2
from tests.pipeline.search.strategies import peers


@pytest.mark.slow
@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_masks, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(optuna_nsga2)


@pytest.mark.slow
def test_it_beats_random_at_an_equal_budget() -> None:
    assert peers.beats_random(optuna_nsga2)
