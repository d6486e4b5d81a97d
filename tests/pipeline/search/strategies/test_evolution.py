from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from pipeline.search.strategies import evolution
from tests.pipeline.search.strategies import peers


@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_masks, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(evolution)


@pytest.mark.slow
def test_it_comes_near_the_known_optimum_and_beats_random() -> None:
    assert peers.beats_random(evolution)
    assert min(peers.shares_of_optimum(evolution, range(2), trials=40)) > 0.97
