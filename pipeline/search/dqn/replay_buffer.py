"""Replay buffer: plans and their targets, relabelled when the models have learnt.

Sutton & Barto ch. 7 (n-step), Ng et al. 1999 (potential-based rewards: the later potential discounted, so that the
best plan stays the best whatever the discount)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.records import LEVELS
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import Array, Indices, Limits, Mask, Planner, Predictions


class Replay:
    """Plans, each worth one transition a group; what they earned is computed anew when the models have learnt."""

    def __init__(self, planner: Planner, settings: Settings) -> None:
        """Hold at most ``settings.replay_plans`` simulated plans, and all measured ones."""
        self._planner, self._settings = planner, settings
        self._metrics = tuple(planner.problem.limits)
        self._wanted = np.array([planner.problem.limits[metric] for metric in self._metrics])
        self.plans: Indices = planner.empty_plans(0)
        self._goals: Array = np.zeros((0, len(self._metrics)))
        self._is_measured = np.zeros(0, dtype=bool)
        self._is_feasible = np.zeros(0, dtype=bool)
        """Met the targets as measured."""
        self.masks: Mask = np.zeros((0, planner.groups + 1, len(LEVELS)), dtype=bool)
        """Which levels are open before each group, and after the last one, (plans, groups + 1, levels), as labelled."""
        self.measured: dict[tuple[int, ...], float] = {}
        """Plans whose reward is known, not predicted."""

    def limits(self, goals: Array) -> Limits:
        """Return goals, (plans, targets), as the planner reads them."""
        return {metric: goals[:, place] for place, metric in enumerate(self._metrics)}

    def goals(self, plans: int) -> Array:
        """Return the wanted targets, (plans, targets)."""
        return np.tile(self._wanted, (plans, 1))

    def add(self, plans: Indices, goals: Array) -> None:
        """Take in simulated plans and the targets, (plans, targets), that they were made for; the oldest go first."""
        self._append(plans, goals, measured=False, feasible=False)
        simulated = np.flatnonzero(~self._is_measured)
        gone = simulated[: max(0, len(simulated) - self._settings.replay_plans)]
        self._keep(np.setdiff1d(np.arange(len(self.plans)), gone))

    def add_measured(self, plan: Sequence[int], reward: float, *, is_feasible: bool) -> None:
        """Take in a plan whose reward for the wanted target is known, and whether it met that; it stays."""
        self.measured[tuple(plan)] = reward
        self._append(np.array([plan]), self.goals(1), measured=True, feasible=is_feasible)

    def label(self) -> None:
        """Compute states, masks and n-step returns of all plans under the models as they are now."""
        planner, plans, limits = self._planner, self.plans, self.limits(self._goals)
        groups, size = planner.groups, len(plans)
        prefixes = [planner.begun(plans, step) for step in range(groups + 1)]
        predicted = self._predictions(np.concatenate(prefixes), np.tile(self._goals, (groups + 1, 1)))
        parts = [_rows(predicted, slice(s * size, (s + 1) * size)) for s in range(groups + 1)]
        seen = list(enumerate(zip(prefixes, parts, strict=True)))
        self._states = np.stack([planner.observe(p, s, o, limits) for s, (p, o) in seen], 1).astype(np.float32)
        masks = [planner.mask(p, s, limits) for s, p in enumerate(prefixes[:-1])]
        self.masks = np.stack([*masks, np.ones_like(masks[0])], 1)
        met = np.flatnonzero(self._is_feasible)[:, None]  # whatever is predicted of them
        self.masks[met, np.arange(groups), plans[met[:, 0]]] = True
        own = planner.own_weights(parts)
        potentials = np.stack([planner.potential(p, o, own[s]) for s, (p, o) in seen], 1)
        potentials[:, -1] = planner.predicted_reward(plans, parts[-1], own_weights=own[-1])
        for i in np.flatnonzero(self._is_measured):
            potentials[i, -1] = self.measured[tuple(plans[i].tolist())]
        self._ends = np.minimum(np.arange(groups) + self._settings.n_step, groups)
        rewards = self._settings.discount * potentials[:, 1:] - potentials[:, :-1]
        self._returns = self._summed(rewards).astype(np.float32)

    def sample(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return a batch of transitions, drawn evenly."""
        groups = self._planner.groups
        plan, step = np.divmod(rng.integers(0, len(self.plans) * groups, self._settings.batch_size), groups)
        end = self._ends[step]
        bootstrap = (end < groups) * self._settings.discount ** (end - step)
        batch = {
            "state": self._states[plan, step],
            "action": self.plans[plan, step],
            "return": self._returns[plan, step],
            "next": self._states[plan, end],
            "mask": self.masks[plan, end],
            "bootstrap": bootstrap.astype(np.float32),
        }
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def states(self, count: int, rng: np.random.Generator) -> Array:
        """Return states drawn evenly from those of the plans as labelled, (count, features)."""
        plan, step = np.divmod(rng.integers(0, len(self.plans) * self._planner.groups, count), self._planner.groups)
        drawn: Array = self._states[plan, step].astype(np.float64)
        return drawn

    def _append(self, plans: Indices, goals: Array, *, measured: bool, feasible: bool) -> None:
        self.plans = np.concatenate([self.plans, plans])
        self._goals = np.concatenate([self._goals, goals])
        self._is_measured = np.concatenate([self._is_measured, np.full(len(plans), measured)])
        self._is_feasible = np.concatenate([self._is_feasible, np.full(len(plans), feasible)])

    def _keep(self, rows: Indices) -> None:
        self.plans, self._goals = self.plans[rows], self._goals[rows]
        self._is_measured, self._is_feasible = self._is_measured[rows], self._is_feasible[rows]

    def _predictions(self, levels: Indices, goals: Array) -> Predictions:
        """Return the planner's predictions; equal plans, such as common beginnings, are predicted once."""
        multipliers = np.random.default_rng(0).integers(1, 2**62, levels.shape[1]) | 1
        _, first, back = np.unique(levels @ multipliers, return_index=True, return_inverse=True)
        known = _rows(self._planner.predictions(levels[first]), back)
        return self._planner.retarget(known, self.limits(goals))

    def _summed(self, rewards: Array) -> Array:
        """Return the discounted sums of n rewards from each step on, (plans, groups)."""
        n, groups = self._settings.n_step, rewards.shape[1]
        padded = np.concatenate([rewards, np.zeros((len(rewards), n))], 1)
        return sum(
            (self._settings.discount**k * padded[:, k : k + groups] for k in range(n)), start=np.zeros_like(rewards)
        )


def _rows(predicted: Predictions, rows: slice | Indices) -> Predictions:
    costs = {metric: values[rows] for metric, values in predicted.costs.items()}
    return Predictions(costs, predicted.accuracy[rows], predicted.excess[rows])
