"""Mode direct: one pruning action a trial, rewarded by what this action changed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from _common.toys import QUICK, play, problem, trial_of

from pipeline.search.dqn.direct import DirectDqn
from pipeline.search.planner import indices
from pipeline.search.reward import Weights
from pipeline.search.strategies import dqn
from pipeline.search.strategy import Problem

BRIEF = QUICK.model_copy(update={"updates": 5})


def direct(blocks: tuple[int, ...], **changes: object) -> Problem:
    return replace(problem(blocks, settings=BRIEF), mode="direct", **changes)  # type: ignore[arg-type]


def asked_by(told: Problem) -> np.ndarray:
    return np.array([indices(plan) for plan in play(told, dqn.create(told))[0]])


def test_every_action_that_cuts_is_a_trial_of_its_own() -> None:
    plans = asked_by(direct((1, 0, 1, 0), trials=15))
    assert len({tuple(plan) for plan in plans.tolist()}) == len(plans)  # no network is measured twice
    going_on = [(before, after) for before, after in itertools.pairwise(plans) if before.any()]
    single = [(before != after).sum() == 1 and (before <= after).all() for before, after in going_on]
    assert any(single)  # within an episode a plan differs from the last one in the group that was decided


def test_nothing_but_what_groups_have_is_masked_and_the_penalty_tells_of_the_target() -> None:
    tight = direct((1, 2), limits={"latency": 0.3}, trials=10)
    assert (tight.costs.tables["latency"].predict(asked_by(tight)) > 0.3).any()


def test_a_group_of_high_alpha_is_cut_less() -> None:
    """The layer hurts when it is cut; where its accuracy weighs much it is left alone, once that was learnt."""

    def level(alpha: float) -> int:
        weights = Weights([0.2, 0.2, alpha], [0.0] * 3, [-0.5] * 3, [0.0] * 3, latency=0.0, violation=0.0)
        settings = BRIEF.model_copy(update={"updates": 40})  # γ below 0: what goes is welcome
        told = direct((1, 1, 1), limits={}, trials=40, weights=weights, settings=settings)
        strategy = DirectDqn(told)
        for index in range(16):
            strategy.tell(trial_of(told, index, strategy.ask()))
        return strategy.greedy()[2]

    assert level(60.0) < level(0.2)


def test_a_network_that_failed_ends_its_episode_and_the_seed_decides_the_rest() -> None:
    def plans(fail: int) -> list[tuple[int, ...]]:
        told, asked = direct((1, 0, 1), trials=8), []
        strategy = DirectDqn(told)
        for index in range(8):
            trial = trial_of(told, index, strategy.ask())
            asked.append(trial.plan.levels)
            strategy.tell(replace(trial, reward=None, candidate=None) if index == fail else trial)
        return asked

    assert plans(3) == plans(3)
    assert plans(0)[:1] == plans(3)[:1]
    failed, following = plans(0)[:2]
    assert sum(level > 0 for level in following) == 1  # the next episode's first cut
    assert any(failed)


def test_the_next_action_may_be_asked_for_while_the_last_is_measured() -> None:
    told = direct((1, 0, 1, 0), trials=12)
    strategy, waiting, asked = DirectDqn(told), [], []
    for index in range(12):
        asked.append(strategy.ask())
        waiting.append(trial_of(told, index, asked[-1]))
        if len(waiting) > 1:
            strategy.tell(waiting.pop(0))
    assert len({plan.levels for plan in asked}) == 12  # no network is asked for twice


def test_where_every_network_is_known_it_still_answers() -> None:
    told = direct((0,), limits={}, trials=6)
    assert len(play(told, DirectDqn(told))[0]) == 6
