"""One policy for several conditions of the data: told apart by the input's statistics, each gets its own plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from _common.toys import QUICK, optimum, problem, trial_of, truth

from pipeline.records import Trial
from pipeline.search.dqn.direct import DirectDqn
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import indices
from pipeline.search.strategies import dqn, hybrid, random
from pipeline.search.strategy import InputCondition, Problem, Strategy

LEARNING = QUICK.model_copy(
    update={"first_simulated_episodes": 400, "simulated_episodes": 150, "first_updates": 100, "updates": 30}
)
BRIEF = QUICK.model_copy(
    update={"first_simulated_episodes": 60, "simulated_episodes": 30, "first_updates": 10, "updates": 5}
)
NAMES = ("clean", "fog:3")


def adapting(seed: int = 0, trials: int = 16, settings: Settings = LEARNING) -> Problem:
    """A toy under two conditions that differ in which layers matter, and in nothing else but the input's statistics."""
    statistics = (((0.0,), (1.0,)), ((1.2,), (0.2,)))
    conditions = tuple(
        InputCondition(name=name, base_accuracy=0.92, input_mean=mean, input_variance=variance)
        for name, (mean, variance) in zip(NAMES, statistics, strict=True)
    )
    told = problem((1,) * 5, seed=seed, trials=trials, settings=settings, limits={"latency": 0.6})
    return replace(told, conditions=conditions, input_mean=(0.6,), input_variance=(0.6,))


def world(told: Problem, number: int) -> Problem:
    """What a condition is like: other layers matter."""
    return replace(told, seed=told.seed + 50 * number, conditions=())


def answered(told: Problem, index: int, strategy: Strategy) -> Trial:
    """One trial, judged under each condition as a run judges it."""
    found = trial_of(told, index, strategy.ask())
    assert found.candidate is not None
    levels = np.array(indices(found.plan))
    under = {name: float(truth(world(told, number))(levels)) for number, name in enumerate(NAMES)}
    missed = 0.0 if found.feasible else 1.0
    candidate = replace(found.candidate, accuracy=float(np.mean(list(under.values()))), accuracies=under)
    rewards = {name: accuracy / 0.92 - missed for name, accuracy in under.items()}
    trial = replace(found, candidate=candidate, reward=candidate.accuracy / 0.92 - missed, rewards=rewards)
    strategy.tell(trial)
    return trial


def best(told: Problem, trials: Sequence[Trial]) -> list[float]:
    """The best accuracy within the target under each condition, over the best that there is."""
    return [
        max(t.candidate.accuracies[name] for t in trials if t.feasible and t.candidate) / optimum(world(told, number))
        for number, name in enumerate(NAMES)
    ]


def test_one_policy_finds_the_best_plan_under_each_condition_and_beats_random() -> None:
    told = adapting()
    strategy = dqn.create(told)
    found = best(told, [answered(told, index, strategy) for index in range(told.trials)])
    drawn = random.create(told)
    assert min(found) >= 0.95
    assert np.mean(found) > np.mean(best(told, [answered(told, index, drawn) for index in range(told.trials)]))


def test_the_network_plans_otherwise_under_other_statistics() -> None:
    told = adapting(seed=3)
    strategy = dqn.Dqn(told)
    for index in range(told.trials):
        answered(told, index, strategy)
    plans = [strategy.planned(told.limits, condition=name)[0] for name in NAMES]
    assert plans[0] != plans[1]
    for number, plan in enumerate(plans):
        reached = float(truth(world(told, number))(np.array(indices(plan))))
        assert reached >= 0.85 * optimum(world(told, number))


@pytest.mark.parametrize("strategy", [dqn, hybrid])
def test_an_episode_is_for_a_condition_each_as_often_as_any_other_and_nothing_is_asked_twice(
    strategy: ModuleType,
) -> None:
    told = adapting(trials=9, settings=BRIEF)
    asks, asked, plans = strategy.create(told), [], []
    for index in range(told.trials):
        plans.append(answered(told, index, asks).plan)
        asked.append(asks.condition)
    assert asked[:3] == ["", "", ""], "single cuts are for all conditions alike"
    assert sorted(asked[3:]) == sorted(NAMES * 3)
    assert len(set(plans)) == len(plans)


def test_the_direct_learner_learns_from_each_step_under_each_condition() -> None:
    told = adapting(trials=24)
    strategy = DirectDqn(told)
    names = set()
    for index in range(told.trials):
        answered(told, index, strategy)
        names.add(strategy.condition)
    assert names == set(NAMES)
    values = [strategy._learner.values(strategy._state(0, strategy._base, number)[None])[0] for number in range(2)]
    assert not np.allclose(*values)


def test_a_plan_for_a_condition_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        dqn.Dqn(adapting()).planned({"latency": 0.6}, condition="snow:1")
