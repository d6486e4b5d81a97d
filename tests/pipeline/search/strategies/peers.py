"""What every strategy has to do, whatever it learns: tried with each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
from _common.toys import all_plans, optimum, play, problem, trial_of

from pipeline.records import LEVELS
from pipeline.search.planner import BEYOND, Planner
from pipeline.search.strategies import random
from pipeline.search.strategy import Problem, Strategy

Plans = list[tuple[int, ...]]


def shares_of_optimum(strategy: ModuleType, seeds: Sequence[int], trials: int) -> list[float]:
    """How near a strategy comes to the known optimum of six removable blocks, by seed."""
    found = []
    for seed in seeds:
        told = problem((1,) * 6, seed=seed, trials=trials)
        found.append(play(told, strategy.create(told))[1] / optimum(told))
    return found


def beats_random(strategy: ModuleType, seeds: Sequence[int] = range(3), trials: int = 20) -> bool:
    return np.mean(shares_of_optimum(strategy, seeds, trials)) > np.mean(shares_of_optimum(random, seeds, trials))


def check_seeds(strategy: ModuleType) -> None:
    """The same seed asks for the same plans; another seed for others."""

    def plans(seed: int) -> Plans:
        told = replace(problem((1, 1, 2, 1, 0), seed=3), trials=10, seed=seed)
        return [plan.levels for plan in play(told, strategy.create(told))[0]]

    first = plans(1)
    assert plans(1) == first
    assert plans(2) != first


def check_no_repeats(strategy: ModuleType) -> None:
    """No plan twice while there are others, in spaces so small that all plans are asked for."""
    for blocks in ((1,), (0, 0), (2, 0)):
        told = problem(blocks, limits={"latency": 0.99})
        within = sum(1 for _ in planner_of(told).every_plan())
        told = replace(told, trials=within + 2)
        plans = [plan.levels for plan in play(told, strategy.create(told))[0]]
        assert len(plans) == within + 2
        assert len(set(plans)) >= within


def check_masks(strategy: ModuleType) -> None:
    """Every plan is legal and predicted feasible; blocks go whole."""
    told = problem((1, 2, 0, 1), trials=14)
    plans = [plan.levels for plan in play(told, strategy.create(told))[0]]
    assert is_legal(told, plans)
    assert (costs(told, plans) <= 0.5 * (1 + BEYOND) + 1e-9).all()


def check_hardships(strategy: ModuleType) -> None:
    """Failures, silence, trials of other plans, told late, one group, no target, a target out of reach."""
    told = problem((1, 2, 0), trials=8)
    failing: Strategy = strategy.create(told)
    plans = []
    for index in range(8):
        trial = trial_of(told, index, failing.ask())
        plans.append(trial.plan.levels)
        lost = {"candidate": None} if index % 2 else {}
        failing.tell(replace(trial, reward=None, failure="the runtime crashed", **lost))
    assert len(set(plans)) == 8
    silent: Strategy = strategy.create(told)
    assert len({silent.ask().levels for _ in range(8)}) == 8
    resumed: Strategy = strategy.create(told)
    resumed.ask()
    resumed.tell(trial_of(told, 0, planner_of(told).plan(next(planner_of(told).every_plan()))))
    assert resumed.ask().levels in {levels_of(p) for p in all_plans(told).tolist()}
    for blocks, limits in (((1,), {}), ((0,), {"latency": 0.9}), ((1, 0, 2), {}), ((1, 0), {"latency": 0.01})):
        told = problem(blocks, limits=limits, trials=6)  # type: ignore[arg-type]
        assert is_legal(told, [plan.levels for plan in play(told, strategy.create(told))[0]])


def check_lookahead(strategy: ModuleType) -> None:
    """Each plan is told one or two asks late, as when the host builds ahead; a resumed run asks the same again."""

    def plans() -> Plans:
        told = problem((1, 1, 0, 2), trials=14, seed=1)
        picks, begun, asked = strategy.create(told), deque[int](), []
        for index in range(14):
            asked.append(picks.ask())
            begun.append(index)
            while len(begun) > 2:
                late = begun.popleft()
                picks.tell(trial_of(told, late, asked[late]))
        return [plan.levels for plan in asked]

    first = plans()
    assert len(set(first)) == 14
    assert plans() == first


def planner_of(told: Problem) -> Planner:
    return Planner(told)


def levels_of(indices: Sequence[int]) -> tuple[int, ...]:
    return tuple(LEVELS[i] for i in indices)


def is_legal(told: Problem, plans: Plans) -> bool:
    return set(plans) <= {levels_of(plan) for plan in all_plans(told).tolist()}


def costs(told: Problem, plans: Plans) -> np.ndarray:
    return told.costs.tables["latency"].predict(np.array([[LEVELS.index(lv) for lv in p] for p in plans]))
