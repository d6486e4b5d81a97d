"""Direct DQN, as AKPERL describes it: every episode is evaluated and measured.

State: the accuracy and power that were measured last (of the base model before anything was), the input's mean and
variance, and which layer is next. Action: 0, 25, 50, 75 or 100 % of it. Reward, at the end of an episode alone:
R = α·accuracy − β·power − γ·pruning intensity, per layer where the weights are, as the run's reward says it of what
the board measured. Levels that a group does not have are not open; nothing else is masked. A run's target is known to
this learner by the reward's penalty for missing it.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.dqn.q_network import Learner, one_thread
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import REMOVE, Array, Indices, Mask, Planner, indices
from pipeline.search.strategy import Problem, settings_of

_LEAST_EPSILON = 0.05
_EXPLORING = 0.6
"""Share of the trials over which ε falls from 1 to its least."""


class DirectDqn:
    """Plays one episode a trial, ε-greedy, and learns from all episodes so far before the next."""

    def __init__(self, problem: Problem) -> None:
        """Build the network; nothing is trained yet."""
        self._problem, self._settings = problem, settings_of(problem, Settings)
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._accuracy = self._power = 1.0
        self._pending: deque[tuple[Array, Mask]] = deque()
        """States and legal levels of episodes that are not evaluated yet, (groups + 1, ...)."""
        self._episodes: list[tuple[Array, Mask, list[int], float]] = []
        """With their levels and what they earned."""
        self._learner = Learner(self._state(self._planner.empty_plans(1), 0).shape[0], self._settings, problem.seed)
        self._asked = 0

    def ask(self) -> PruningPlan:
        """Return the next episode's plan; learns first."""
        with one_thread():
            self._learn()
            levels = self._episode()
        self._asked += 1
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Remember an episode and what it earned; one that failed is forgotten."""
        states, masks = self._pending.popleft()
        if trial.candidate is None or trial.reward is None:
            return
        self._episodes.append((states, masks, indices(trial.plan), trial.reward))
        self._accuracy = trial.candidate.accuracy / self._problem.base_accuracy
        if trial.measurement is not None and trial.measurement.power_ratio is not None:
            self._power = trial.measurement.power_ratio.value

    def _episode(self) -> list[int]:
        share = min(1.0, self._asked / max(1.0, _EXPLORING * self._problem.trials))
        epsilon = 1.0 - (1.0 - _LEAST_EPSILON) * share
        levels, states, masks = self._planner.empty_plans(1), [], []
        for step in range(self._planner.groups):
            states.append(self._state(levels, step))
            masks.append(self._planner.legal(levels, step)[0])
            values = self._learner.values(states[-1][None])[0].astype(float)
            if self._rng.random() < epsilon:
                values = self._rng.random(len(LEVELS))
            levels[0, step] = np.where(masks[-1], values, -np.inf).argmax()
        states.append(self._state(levels, self._planner.groups))
        masks.append(np.ones(len(LEVELS), dtype=bool))
        self._pending.append((np.array(states), np.array(masks)))
        return [int(level) for level in levels[0]]

    def _state(self, levels: Indices, step: int) -> Array:
        problem, groups = self._problem, self._planner.groups
        seen = [
            self._accuracy, self._power, problem.input_mean, problem.input_variance,
            (problem.temperature_c or 0.0) / 100, levels[0, step - 1] / REMOVE if step else 0.0,
        ]  # fmt: skip
        return np.array([*seen, *self._planner.features[min(step, groups - 1)]])

    def _learn(self) -> None:
        """Take gradient steps on transitions drawn from all episodes; only the last step of one earns something."""
        if not self._episodes:
            return
        states, masks, levels, rewards = (np.array(part) for part in zip(*self._episodes, strict=True))
        groups = self._planner.groups
        for _ in range(self._settings.updates):
            episode = self._rng.integers(0, len(states), self._settings.batch_size)
            step = self._rng.integers(0, groups, self._settings.batch_size)
            last = step == groups - 1
            batch = {
                "state": states[episode, step].astype(np.float32),
                "action": levels[episode, step],
                "return": (rewards[episode] * last).astype(np.float32),
                "next": states[episode, step + 1].astype(np.float32),
                "mask": masks[episode, step + 1],
                "bootstrap": (self._settings.discount * ~last).astype(np.float32),
            }
            self._learner.update({name: torch.from_numpy(values) for name, values in batch.items()})
