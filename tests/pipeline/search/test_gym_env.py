from __future__ import annotations

import numpy as np
import pytest
from _common.toys import problem
from gymnasium.utils.env_checker import check_env

from pipeline.records import LEVELS
from pipeline.search.gym_env import PruningEnv
from pipeline.search.planner import Planner


def env_of(blocks: tuple[int, ...] = (1, 2, 0), limit: float = 0.6) -> PruningEnv:
    told = problem(blocks, limits={"latency": limit})
    return PruningEnv(Planner(told))


def test_gymnasiums_own_checker_has_nothing_to_say() -> None:
    check_env(env_of(), skip_render_check=True)  # warnings are errors here


@pytest.mark.parametrize("seed", range(5))
def test_the_rewards_of_an_episode_add_up_to_the_predicted_reward(seed: int) -> None:
    env, rng, total, done = env_of(), np.random.default_rng(seed), 0.0, False
    _, info = env.reset(seed=seed)
    while not done:
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        _, reward, done, truncated, info = env.step(action)
        assert info["level"] == LEVELS[action]
        assert not truncated
        total += reward
    planner = env.planner
    levels = np.array([[LEVELS.index(lv) for lv in env.plan().levels]])
    assert total == pytest.approx(planner.predicted_reward(levels)[0] - planner.potential(planner.empty_plans(1))[0])


def test_whatever_the_discount_returns_order_plans_as_their_predicted_rewards_do() -> None:
    planner, discount, steps = env_of().planner, 0.7, 4
    for levels in ([4, 4, 4, 0], [0, 0, 0, 2], [4, 0, 0, 2]):
        env, total = PruningEnv(planner, discount), 0.0
        env.reset()
        for step, level in enumerate(levels):
            _, reward, _, _, _ = env.step(np.int64(level))
            total += discount**step * reward
        plan = np.array([[LEVELS.index(lv) for lv in env.plan().levels]])
        wanted = discount**steps * planner.predicted_reward(plan)[0] - planner.potential(planner.empty_plans(1))[0]
        assert total == pytest.approx(wanted)


def test_an_illegal_level_becomes_the_nearest_legal_one() -> None:
    env = env_of((0, 0), limit=1.0)  # 16 channels in steps of 16: nothing but 0 is legal at first
    env.reset()
    _, _, _, _, info = env.step(np.int64(4))
    assert info["level"] == 0


def test_an_episode_has_one_step_a_group_and_a_new_one_begins_whole() -> None:
    env = env_of()
    first, _ = env.reset()
    for step in range(4):
        _, _, done, _, _ = env.step(np.int64(4))
        assert done == (step == 3)
    again, _ = env.reset()
    np.testing.assert_array_equal(first, again)
    assert env.plan().levels == (0, 0, 0, 0)
