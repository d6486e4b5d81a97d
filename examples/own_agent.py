"""Let an agent of your own plan by what a finished run has measured: Stable-Baselines3's DQN, no board.

pip install stable-baselines3
python examples/own_agent.py [RUNS] [RUN] [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
from stable_baselines3 import DQN

import pipeline


def trained(env: gymnasium.Env, steps: int) -> DQN:
    """Return an agent that has played so many steps; it does not discount, as the environment does not."""
    agent = DQN(
        "MlpPolicy", env, gamma=1.0, learning_rate=1e-3, learning_starts=steps // 5, exploration_fraction=0.5,
        target_update_interval=100, seed=0, device="cpu",
    )  # fmt: skip
    return agent.learn(steps)


def played(env: gymnasium.Env, agent: DQN) -> float:
    """Play one episode without exploring; return what the plan is predicted to earn over the base model."""
    earned, done = 0.0, False
    state, _ = env.reset()
    while not done:
        action, _ = agent.predict(state, deterministic=True)
        state, reward, done, _, _ = env.step(np.int64(action))
        earned += float(reward)
    return earned


def main(runs: Path, name: str, steps: int) -> None:
    """Train an agent, and print its plan."""
    env = pipeline.environment(name, runs=runs)
    earned = played(env, trained(env, steps))
    for group, level in zip(env.groups, env.plan().levels, strict=True):
        print(f"{group}: {level} %")
    print(f"predicted reward: {earned:+.3f} over the base model's")


if __name__ == "__main__":
    told = sys.argv[1:]
    main(Path(told[0] if told else "runs"), told[1] if len(told) > 1 else "latest", int(told[2]) if told[2:] else 5000)
