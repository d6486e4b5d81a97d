"""Planning as a Gymnasium environment: one episode is one plan, one step is one group's level."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pipeline.records import LEVELS, PruningPlan
from pipeline.search.planner import Planner


class PruningEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Rewards are the differences of the shaping potential of the plan so far; ``info`` carries the legal levels.

    For an agent that discounts, the later potential is discounted too (Ng et al. 1999): only then is the plan of the
    highest return the best plan.

    A level that is not legal is replaced by the nearest legal one, which ``info["level"]`` names: agents that know
    ``action_masks()`` never meet this.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, planner: Planner, discount: float = 1.0) -> None:
        """Play by the rules of ``planner``, for an agent that discounts so."""
        self.planner = planner
        self.discount = discount
        self.observation_space = gymnasium.spaces.Box(-5.0, 5.0, (planner.observation_size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(LEVELS))
        self._levels = planner.empty_plans(1)
        self._step = 0

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order in which they are decided."""
        return tuple(group.name for group in self.planner.problem.space.groups)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a plan that cuts nothing."""
        super().reset(seed=seed, options=options)
        self._levels = self.planner.empty_plans(1)
        self._step = 0
        return self._observation(), {"action_mask": self.action_masks()}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide one group's level; the reward is in units of the run's reward."""
        legal = np.flatnonzero(self.action_masks())
        level = int(legal[np.abs(legal - int(action)).argmin()])
        before = self.planner.potential(self._levels)[0]
        self._levels[0, self._step] = level
        self._step += 1
        done = self._step == self.planner.groups
        after = (self.planner.predicted_reward if done else self.planner.potential)(self._levels)[0]
        info = {"level": LEVELS[level], "action_mask": self.action_masks()}
        return self._observation(), float(self.discount * after - before), done, False, info

    def action_masks(self) -> NDArray[np.int8]:
        """Return 1 for each legal level of the group that is next."""
        if self._step == self.planner.groups:
            return np.ones(len(LEVELS), np.int8)
        legal: NDArray[np.int8] = self.planner.mask(self._levels, self._step)[0].astype(np.int8)
        return legal

    def plan(self) -> PruningPlan:
        """Return the plan so far; undecided groups are whole."""
        return self.planner.plan(self._levels[0])

    def _observation(self) -> NDArray[np.float32]:
        state: NDArray[np.float32] = self.planner.observe(self._levels, self._step)[0].astype(np.float32)
        return state
