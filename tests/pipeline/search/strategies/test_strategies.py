from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from _common.toys import QUICK, all_plans, optimum, play, problem, trial_of, truth

from pipeline import plugins
from pipeline.errors import ConfigError
from pipeline.records import LEVELS
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import Limits, Planner, indices
from pipeline.search.strategies import dqn, hybrid, knapsack, random, surrogate, uniform
from pipeline.search.strategy import Problem
from tests.variations import one_in, variations

BRIEF = QUICK.model_copy(
    update={"first_simulated_episodes": 100, "simulated_episodes": 50, "first_updates": 20, "updates": 10}
)
"""A DQN that has hardly learnt, for what holds however good it is."""
LEARNING = QUICK.model_copy(
    update={"first_simulated_episodes": 300, "simulated_episodes": 100, "first_updates": 80, "updates": 25}
)
"""One that has learnt enough for these toys."""


@pytest.mark.slow
def test_the_dqn_comes_near_the_known_optimum_and_beats_random_at_an_equal_budget() -> None:
    learnt, drawn = [], []
    for seed in range(2):
        told = problem((1,) * 6, seed=seed, trials=18, settings=LEARNING)
        best = optimum(told)
        learnt.append(play(told, dqn.create(told))[1] / best)
        drawn.append(play(told, random.create(told))[1] / best)
    assert np.mean(learnt) >= 0.97
    assert np.mean(learnt) > np.mean(drawn)


@pytest.mark.slow
def test_the_dqn_solves_a_toy_whose_blocks_hold_several_groups() -> None:
    told = problem((2, 0, 2, 1, 0), seed=5, trials=16, settings=LEARNING)
    plans, best = play(told, dqn.create(told))
    assert best >= 0.97 * optimum(told)
    for plan in plans:
        kept = told.space.kept(plan.levels)
        assert [k == 0 for k in kept] == [level == 100 for level in plan.levels]


@pytest.mark.parametrize("name", variations(plugins.names("pipeline.search.strategies"), ["dqn", "random"]))
def test_every_strategy_plans_blocks_within_blocks(name: str) -> None:
    """Each plan is the only one of its network: what a removed block takes along is at level 100, too."""
    told = problem((2, 1, 1, 0), within={1: 0, 2: 1}, seed=1, trials=9, limits={"latency": 0.6}, settings=BRIEF)
    strategy = plugins.load("pipeline.search.strategies", name)
    plans, _ = play(told, strategy.create(told))
    for plan in plans:
        kept = told.space.kept(plan.levels)
        assert [k == 0 for k in kept] == [level == 100 for level in plan.levels]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [surrogate, knapsack])
def test_the_controls_come_near_the_known_optimum(strategy: object) -> None:
    told = problem((2, 0, 1, 1), seed=2, trials=16)
    assert play(told, strategy.create(told))[1] >= 0.97 * optimum(told)  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", variations([dqn, hybrid, random, surrogate, knapsack], [dqn, random]))
def test_the_same_seed_gives_the_same_plans_and_another_seed_others(strategy: object) -> None:
    def plans(seed: int) -> list[tuple[int, ...]]:
        told = replace(problem((1, 2, 0, 0), seed=3, settings=BRIEF), trials=6, seed=seed)
        return [plan.levels for plan in play(told, strategy.create(told))[0]]  # type: ignore[attr-defined]

    torch.rand(3)  # what others draw does not matter
    first = plans(1)
    torch.rand(5)
    assert plans(1) == first
    if strategy in (dqn, random):  # the hybrid draws as the DQN; the others' picks are hardly by chance
        assert plans(2) != first


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    told = problem((1, 0), trials=4, settings=BRIEF)
    play(told, dqn.create(told))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("strategy", "blocks"), variations(
    [(strategy, blocks) for strategy in (dqn, hybrid, random, surrogate, knapsack) for blocks in ([1], [0, 0], [2])]
    + [(dqn, [1, 0, 0]), (surrogate, [1, 0, 0]), (knapsack, [1, 0, 0])]
    + [(hybrid, [2, 0, 1]), (random, [2, 0, 1]), (knapsack, [2, 0, 1])],
    [(strategy, [2]) for strategy in (dqn, hybrid, random, surrogate, knapsack)],
))  # fmt: skip
def test_no_plan_is_asked_twice_while_there_are_others(strategy: object, blocks: list[int]) -> None:
    told = problem(tuple(blocks), limits={"latency": 0.99}, settings=BRIEF)
    planner = Planner(told)
    legal = sum(1 for _ in planner.every_plan())
    told = replace(told, trials=min(legal + 3, 30))
    plans = [p.levels for p in play(told, strategy.create(told))[0]]  # type: ignore[attr-defined]
    assert len(plans) == told.trials
    assert len(set(plans)) >= min(legal, told.trials)


def test_the_dqn_asks_within_reach_of_the_target_once_its_probes_are_through() -> None:
    told = problem((1, 2, 0, 1), settings=BRIEF, trials=12)
    plans, _ = play(told, dqn.create(told))
    costs = told.costs.tables["latency"].predict(np.array([[LEVELS.index(lv) for lv in p.levels] for p in plans]))
    assert (costs[told.trials // 3 :] <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("settings", one_in(3, [
    BRIEF, BRIEF.model_copy(update={"first_simulated_episodes": 0, "simulated_episodes": 0}), Settings(
        hidden=8, n_step=9, discount=0.9, replay_plans=1, first_simulated_episodes=10, simulated_episodes=1,
        first_updates=2, updates=1,
        batch_size=1,
    ),
]))  # fmt: skip
def test_the_dqn_works_when_it_is_told_nothing_or_of_failures_alone(settings: Settings) -> None:
    told = problem((1, 2, 0), settings=settings, trials=6)
    silent = dqn.create(told)
    assert len({silent.ask().levels for _ in range(6)}) == 6
    failing = dqn.create(told)
    for index in range(6):
        trial = trial_of(told, index, failing.ask())
        failing.tell(replace(trial, candidate=None, reward=None, failure="the runtime crashed"))
    unmeasured = dqn.create(told)
    for index in range(6):
        trial = trial_of(told, index, unmeasured.ask())
        unmeasured.tell(replace(trial, reward=None, failure="the runtime crashed"))


@pytest.mark.parametrize("strategy", [dqn, hybrid, random, uniform, surrogate, knapsack])
def test_strategies_work_without_a_target(strategy: object) -> None:
    told = problem((1, 0, 2), limits={}, trials=6, settings=BRIEF)
    plans, best = play(told, strategy.create(told))  # type: ignore[attr-defined]
    legal = {tuple(p) for p in all_plans(told).tolist()}
    assert {tuple(LEVELS.index(lv) for lv in p.levels) for p in plans} <= legal
    assert best > 0


@pytest.mark.slow
def test_measured_plans_stay_in_the_replay_however_much_is_simulated() -> None:
    told = problem((1, 1, 1), trials=12, settings=BRIEF.model_copy(update={"replay_plans": 20}))
    strategy = dqn.create(told)
    for index in range(told.trials):
        strategy.tell(trial_of(told, index, strategy.ask()))
    kept = {tuple(p) for p in strategy.network.replay.plans.tolist()}
    assert strategy.network.replay.measured.keys() <= kept
    assert len(strategy.network.replay.plans) <= 20 + told.trials


@pytest.mark.parametrize("feasible", variations([True, False], [True]))
def test_a_measured_plan_that_met_the_target_is_open_in_its_own_backup_whatever_is_predicted(feasible: bool) -> None:
    told = problem((1, 1, 1), trials=8, settings=BRIEF)
    strategy, plan = dqn.Dqn(told), [0, 2, 4]
    assert not Planner(told).can_meet(np.array([plan]))[0]
    trial = trial_of(told, 0, Planner(told).plan(plan))
    strategy.tell(replace(trial, reward=0.9, feasible=feasible))
    for index in range(1, 8):
        strategy.tell(trial_of(told, index, strategy.ask()))
    strategy.network.replay.label()
    row = strategy.network.replay.plans.tolist().index(plan)
    assert all(strategy.network.replay.masks[row, step, level] for step, level in enumerate(plan)) == feasible


@pytest.mark.slow
def test_it_learns_anew_once_enough_more_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    told = problem((1,) * 6, trials=20, settings=BRIEF.model_copy(update={"retrain_growth": 1.5}))
    strategy, learnt_at = dqn.Dqn(told), list[int]()

    def update(_: int) -> list[float]:
        learnt_at.append(len(strategy.network.replay.measured))
        return []

    monkeypatch.setattr(strategy.network, "update", update)
    play(told, strategy)
    single_cuts = learnt_at[0]
    assert 0 < single_cuts <= told.trials // 3
    growing = [single_cuts]
    while growing[-1] * 1.5 < told.trials:
        growing.append(math.ceil(growing[-1] * 1.5))
    assert learnt_at == growing


@functools.cache
def searched_by(strategy: type[dqn.Dqn | hybrid.Hybrid]) -> tuple[Problem, dqn.Dqn | hybrid.Hybrid]:
    """Return a problem, and a strategy whose search of it is over."""
    told = problem((1, 2, 0, 1, 1), seed=4, trials=16)
    searched = strategy(told)
    play(told, searched)
    return told, searched


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [dqn.Dqn, hybrid.Hybrid])
def test_it_plans_for_targets_that_were_never_searched_for(strategy: type[dqn.Dqn | hybrid.Hybrid]) -> None:
    told, searched = searched_by(strategy)
    accuracies = []
    for limit in (0.4, 0.65, 0.9):
        before = searched._proposer.rng.bit_generator.state
        plan = searched.plan_for({"latency": limit})
        assert searched.plan_for({"latency": limit}) == plan
        assert searched._proposer.rng.bit_generator.state == before, "what is asked for next does not depend on it"
        levels = np.array([indices(plan)])
        assert told.costs.tables["latency"].predict(levels)[0] <= limit + 1e-9
        accuracies.append(truth(told)(levels)[0])
        assert accuracies[-1] >= 0.9 * optimum(replace(told, limits={"latency": limit}))
    assert accuracies == sorted(accuracies)


@pytest.mark.slow
def test_the_hybrid_plans_for_other_targets_no_worse_than_the_knapsack_on_the_same_models() -> None:
    _, searched = searched_by(hybrid.Hybrid)
    planner = searched._proposer.planner
    for limit in (0.4, 0.65, 0.9):
        limits: Limits = {"latency": limit}
        levels = np.array([indices(searched.plan_for({"latency": limit}))])
        others = searched._proposer.knapsack(limits)
        others = others[planner.excess(others, limits) == 0]
        best = planner.predicted_reward(others, limits=limits).max()
        assert planner.predicted_reward(levels, limits=limits)[0] >= best - 1e-9  # sums in another order


@pytest.mark.slow
def test_the_networks_plans_alone_come_near_the_known_optimum() -> None:
    told = problem((1,) * 6, trials=18, settings=LEARNING.model_copy(update={"single_cut_share": 0.0}))
    assert play(told, dqn.create(told))[1] >= 0.97 * optimum(told)


def test_a_wider_beam_finds_plans_of_no_less_value() -> None:
    told = problem((1, 2, 0, 1), settings=BRIEF, trials=9)
    searched = dqn.Dqn(told)
    play(told, searched)
    network = searched.network
    greedy = network.beam_search(1, told.limits)
    assert (greedy == network.rollout(1, told.limits)).all()
    wide = network.beam_search(20, told.limits)
    assert len({tuple(plan) for plan in wide.tolist()}) == len(wide) > 1


def test_uniform_goes_from_shallow_to_deep_in_legal_levels() -> None:
    told = problem((1, 0, 1), trials=4)  # 16, 32 and 64 channels in steps of 16
    plans = [p.levels for p in play(told, uniform.create(told))[0]]
    assert plans == [(0, 0, 25), (0, 50, 50), (0, 50, 75), (0, 0, 25)]


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'dqm' .*\(did you mean 'dqn'\?\)"):
        plugins.load("pipeline.search.strategies", "dqm")
