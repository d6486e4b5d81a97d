from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from _common.toys import play, problem

from pipeline.search.strategies import netadapt
from tests.pipeline.search.strategies import peers


@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(netadapt)


@pytest.mark.slow
def test_it_beats_random_at_an_equal_budget() -> None:
    assert peers.beats_random(netadapt, trials=36)


@pytest.mark.parametrize(("blocks", "trials"), [((1,) * 6, 8), ((1,) * 6, 40), ((2, 0, 2, 1, 0), 12), ((1,) * 12, 14)])
def test_it_reaches_the_target_within_the_trials(blocks: tuple[int, ...], trials: int) -> None:
    told = problem(blocks, limits={"latency": 0.6}, trials=trials)
    plans = [plan.levels for plan in play(told, netadapt.create(told))[0]]
    assert peers.is_legal(told, plans) if len(blocks) < 12 else True
    assert peers.costs(told, plans).min() <= 0.6 + 1e-9


def test_each_proposal_cuts_one_group_of_the_network_that_was_kept() -> None:
    told = problem((1,) * 6, trials=40)
    strategy = netadapt.create(told)
    plans = np.array([plan.levels for plan in play(told, strategy)[0]])
    first = plans[: told.trials // 6]
    assert ((first[:6] != 0).sum(1) == 1).all()  # of the whole network, one group each
    assert sorted((first[:6] != 0).argmax(1)) == list(range(6))
    costs = peers.costs(told, [tuple(p) for p in plans.tolist()])
    met = int(np.flatnonzero(costs <= 0.5 + 1e-9)[0])
    assert met >= 6


def test_half_of_the_groups_propose_at_first_where_the_trials_reach_for_that() -> None:
    """By even steps, as few as reach the target, only the two largest of these twelve groups could save enough."""
    told = problem((1,) * 12, trials=32)
    plans = np.array([plan.levels for plan in play(told, netadapt.create(told))[0]])
    assert ((plans[:6] != 0).sum(1) == 1).all()
    assert len(set((plans[:6] != 0).argmax(1))) == 6


def test_the_kept_proposal_is_the_most_accurate_of_those_that_save_the_step() -> None:
    told = problem((1,) * 6, trials=40)
    strategy = netadapt.NetAdapt(told)
    proposals = [strategy.ask() for _ in range(6)]
    for index, plan in enumerate(proposals):
        strategy.tell(peers.trial_of(told, index, plan))
    accuracies = [peers.trial_of(told, 0, plan).candidate.accuracy for plan in proposals]  # type: ignore[union-attr]
    best = int(np.argmax(accuracies))
    following = strategy.ask().levels
    changed = [i for i, (a, b) in enumerate(zip(following, proposals[best].levels, strict=True)) if a != b]
    assert len(changed) == 1
