from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from pipeline.config import RunConfig
from pipeline.records import LEVELS
from pipeline.search.strategies import purl
from tests.pipeline.search.strategies import peers
from tests.pipeline.search.toys import optimum, play, problem, trial_of


@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(purl)


def test_each_step_of_an_episode_is_a_trial_and_the_last_meets_the_target() -> None:
    told = problem((1,) * 4, trials=20)
    strategy = purl.create(told)
    plans = []
    for index in range(20):
        plans.append(strategy.ask())
        strategy.tell(trial_of(told, index, plans[-1]))
    ends = [move.after for move in strategy._moves if move.step == 3]
    assert len(ends) >= 3
    for levels in ends:
        assert told.costs.tables["latency"].predict(np.array([levels]))[0] <= 0.5 + 1e-9
    asked = {tuple(LEVELS.index(lv) for lv in plan.levels) for plan in plans}
    assert set(ends) <= asked
    for move in strategy._moves:  # a step decides one group and leaves the others
        assert [a != b for a, b in zip(move.before, move.after, strict=True)].count(True) <= 1


def test_groups_share_a_step_where_the_trials_would_not_do_for_five_episodes() -> None:
    strategy = purl.create(problem((1,) * 6, trials=10))
    assert strategy._steps == [[0, 1, 2], [3, 4, 5]]


def test_the_reward_is_the_papers() -> None:
    told = problem((1,) * 4, trials=20)
    strategy = purl.create(told)
    whole = (0, 0, 0, 0)
    assert strategy._reward(whole) == pytest.approx(-5.0 * 1.0)  # all accuracy, no saving
    deepest = (4, 4, 4, 4)
    strategy._accuracy[deepest] = 0.46
    assert strategy._reward(deepest) == pytest.approx(-5.0 * 0.5)  # half the accuracy, more saving than asked


def test_a_threshold_cuts_the_filters_below_it_rounded_up_to_a_level() -> None:
    told = problem((0,), limits={})  # 16 channels in steps of 16: whole, or nothing to cut
    assert purl.create(told)._levels == [[0] * 23]
    told = problem((0, 0, 1), limits={})
    norms = tuple(tuple(np.linspace(1, 2, g.channels).tolist()) for g in told.space.groups)
    levels = purl.create(purl.weighed(told, norms))._levels
    assert levels[2][0] == 0
    assert levels[2][-1] == 4  # above all norms: the block goes
    assert levels[2] == sorted(levels[2])
    group = told.space.groups[2]
    for threshold, level in zip(purl.THRESHOLDS, levels[2], strict=True):
        below = purl.below(threshold, norms[2])
        assert 1 - group.kept[LEVELS[level]] / group.channels >= below


def test_it_learns_which_thresholds_are_good_on_a_toy_of_one_group() -> None:
    told = problem((1, 1), limits={"latency": 0.75}, trials=24, seed=1)
    assert play(told, purl.create(told))[1] == pytest.approx(optimum(told))


def test_the_network_fits_the_rewards_of_its_steps() -> None:
    told = problem((1,) * 3, trials=40, seed=2)
    strategy = purl.create(told)
    for index in range(12):
        strategy.tell(trial_of(told, index, strategy.ask()))
    for _ in range(25):
        strategy._learn()
    last = [m for m in strategy._moves if m.step == 2 and m.after in strategy._accuracy]
    with torch.no_grad():
        values = strategy._online(torch.from_numpy(strategy._states([(m.step, m.before) for m in last])))
    found = np.array([float(values[i, m.action]) for i, m in enumerate(last)])
    wanted = np.array([strategy._reward(m.after) for m in last])
    assert np.abs(found - wanted).mean() < np.abs(wanted - wanted.mean()).mean() + 0.3


def test_its_note_says_what_zeros_do_not_do() -> None:
    assert "no dense runtime faster" in str(purl.note(RunConfig()))
