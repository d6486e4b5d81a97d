"""A site learns from the federation's network on; what averaging sites come to is a policy like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _common.toys import QUICK, problem, trial_of

from pipeline.federated.averaging import Update, average
from pipeline.federated.site import LocalTraining
from pipeline.federated.weights import packed, unpacked
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategies.random import RandomSearch

BRIEF = QUICK.model_copy(update={"first_simulated_episodes": 60, "simulated_episodes": 30})


def site(seed: int, trials: int = 6) -> LocalTraining:
    toy = problem((1,) * 3, trials=trials, seed=seed, settings=BRIEF)
    strategy, drawn = Dqn(toy), RandomSearch(toy)
    for index in range(trials):
        strategy.tell(trial_of(toy, index, drawn.ask()))
    return LocalTraining.of(strategy)


def test_a_round_moves_the_network_by_bounded_steps_and_is_the_same_again() -> None:
    begun = site(0).strategy.policy()
    learnt, how = site(0).train(begun, 5)
    assert how.updates == 5
    assert np.isfinite(how.loss)
    assert learnt != begun
    assert site(0).train(begun, 5)[0] == learnt


def test_sites_with_other_boards_have_one_structure_and_the_mean_plans_at_each() -> None:
    sites = [site(0), site(1, trials=8)]
    assert sites[0].structure == sites[1].structure
    assert [one.trials for one in sites] == [6, 8]
    shared, structure = sites[0].strategy.policy(), sites[0].structure
    for _ in range(2):
        updates = [
            Update(site=str(n), weights=unpacked(one.train(shared, 5)[0], structure), trials=one.trials)
            for n, one in enumerate(sites)
        ]
        shared = packed(average(unpacked(shared, structure), updates).weights, structure)
    for one in sites:
        one.strategy.network.begin_with(shared)
        assert len(one.strategy.plan_for({"latency": 0.6}).levels) == 3
        assert unpacked(one.strategy.policy(), structure).keys() == structure.tensors.keys()


def test_a_network_of_another_structure_or_with_nan_is_not_learnt_from() -> None:
    one = site(0)
    other = LocalTraining.of(Dqn(replace(problem((1,) * 4, settings=BRIEF))))
    with pytest.raises(ValueError, match="has the shape"):
        one.train(other.strategy.policy(), 1)
    weights = dict(unpacked(one.strategy.policy(), one.structure))
    weights["value.bias"] = np.full_like(weights["value.bias"], np.nan)
    with pytest.raises(ValueError, match="not finite"):
        one.train(packed(weights, one.structure), 1)
