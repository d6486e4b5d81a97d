from __future__ import annotations

import pytest
import torch
from _common.toys import play, problem

from pipeline.search.strategies import optuna_gp
from tests.pipeline.search.strategies import peers


@pytest.mark.slow
def test_it_beats_random_within_the_masks_and_asks_the_same_again() -> None:
    told = problem((1,) * 6, seed=1, trials=9)
    plans, best = play(told, optuna_gp.create(told))
    levels = [plan.levels for plan in plans]
    assert len(set(levels)) == 9
    assert peers.is_legal(told, levels)
    assert (peers.costs(told, levels) <= 0.5 + 1e-9).all()
    torch.rand(3)  # what others draw does not matter
    again = problem((1,) * 6, seed=1, trials=9)
    assert [plan.levels for plan in play(again, optuna_gp.create(again))[0]] == levels
    assert best / peers.optimum(told) > peers.shares_of_optimum(peers.random, [1], trials=9)[0]


@pytest.mark.slow
def test_it_lives_with_failures_and_late_answers() -> None:
    peers.check_hardships(optuna_gp)


def test_torchs_threads_and_generator_are_as_before() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    told = problem((1, 0, 1), trials=6)
    play(told, optuna_gp.create(told))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
