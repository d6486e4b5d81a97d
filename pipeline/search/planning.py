"""Planning layer by layer, many plans at once: the state at each step, the legal levels, what a plan promises.

A plan grows from the first group to the last. At each step the learner sees the group's features, what the plan so far
is predicted to have (accuracy, latency, power, relative to the base), the target, and AKPERL's input statistics and
operating condition. A level is legal where the group has it and the target stays reachable: with every later group cut
as deep as it goes, the predicted cost must not be over the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.cost.accuracy import AccuracyModel
from pipeline.cost.tables import CostTable
from pipeline.records import LEVELS, PruningPlan
from pipeline.search.strategy import Problem

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

REMOVE = len(LEVELS) - 1


class Planner:
    """The rules of the game, vectorised over plans; level *indices* (into LEVELS) throughout."""

    def __init__(self, problem: Problem, accuracy: AccuracyModel) -> None:
        """Read the problem; ``accuracy`` may learn on while the planner is in use."""
        self.problem = problem
        self.accuracy = accuracy
        self.groups = len(problem.space.groups)
        self._kept = np.array(
            [[g.kept.get(lv, -1) / g.channels for lv in LEVELS] for g in problem.space.groups], dtype=float
        )
        self._owner = next(iter(problem.costs.tables.values())).owner
        self._features = _layer_features(problem)
        self.observation_size = self.observe(self.blank(1), 0).shape[1]

    def blank(self, plans: int) -> Indices:
        """Return ``plans`` plans that cut nothing yet, (plans, groups)."""
        return np.zeros((plans, self.groups), dtype=np.int64)

    # ------------------------------------------------------------ legal levels

    def mask(self, levels: Indices, step: int) -> Mask:
        """Return which levels are legal for group ``step`` of plans decided up to it, (plans, levels)."""
        legal = self._legal(levels, step)
        best = self._lowest_costs(levels, step)
        reachable = legal & (best <= 0)
        stuck = ~reachable.any(1)
        if stuck.any():  # nothing reaches the target any more: the deepest cut comes nearest
            best = np.where(legal, best, np.inf)
            reachable[stuck] = np.arange(len(LEVELS)) == best[stuck].argmin(1)[:, None]
        return reachable

    def _legal(self, levels: Indices, step: int) -> Mask:
        legal = np.broadcast_to(self._kept[step] >= 0, (len(levels), len(LEVELS))).copy()
        owner = self._owner[step]
        if owner != step:  # the block's first group has decided whether the block goes
            gone = levels[:, owner] == REMOVE
            legal[gone] = np.arange(len(LEVELS)) == REMOVE
            legal[~gone, REMOVE] = False
        return legal

    def deepest(self, levels: Indices, step: int) -> Indices:
        """Return the level of group ``step`` that brings plans decided up to it nearest to the targets, (plans,)."""
        legal = self._legal(levels, step)
        deepest: Indices = np.where(legal, self._lowest_costs(levels, step, floor=-np.inf), np.inf).argmin(1)
        return deepest

    def excess(self, levels: Indices) -> Array:
        """Return by how much whole plans are predicted to exceed the targets, relative to them, (plans,)."""
        total = np.zeros(len(levels))
        for metric, limit in self.problem.limits.items():
            if metric in self.problem.costs.tables:
                total += np.maximum(0.0, self.problem.costs.tables[metric].predict(levels) / limit - 1)
        return total

    def _lowest_costs(self, levels: Indices, step: int, floor: float = -1.0) -> Array:
        """Return the worst relative excess over the targets, each level chosen and all later groups cut deepest."""
        worst = np.full((len(levels), len(LEVELS)), floor)
        for metric, limit in self.problem.limits.items():
            table = self.problem.costs.tables.get(metric)
            if table is None:
                continue
            for level in np.flatnonzero(self._kept[step] >= 0):
                lowest = table.predict(self._deepest(levels, step, int(level), table))
                worst[:, level] = np.maximum(worst[:, level], lowest / limit - 1)
        return worst

    def _deepest(self, levels: Indices, step: int, level: int, table: CostTable) -> Indices:
        """Return the plans with ``level`` at ``step`` and each later group at the level that saves most."""
        plans = levels.copy()
        plans[:, step] = level
        savings = np.where(np.isnan(table.savings), -np.inf, table.savings)
        inner = savings[:, :REMOVE].argmax(1)
        for later in range(step + 1, self.groups):
            owner = self._owner[later]
            if owner == later:
                followers = np.flatnonzero((self._owner == later) & (np.arange(self.groups) > later))
                kept = savings[later, inner[later]] + savings[followers, inner[followers]].sum()
                plans[:, later] = REMOVE if savings[later, REMOVE] > kept else inner[later]
            else:
                plans[:, later] = np.where(plans[:, owner] == REMOVE, REMOVE, inner[later])
        return plans

    # ------------------------------------------------------------ what is seen and promised

    def observe(self, levels: Indices, step: int) -> Array:
        """Return the state before group ``step`` is decided, (plans, features); after the last: of the whole plan."""
        problem, plans = self.problem, len(levels)
        layer = self._features[min(step, self.groups - 1)]
        previous = levels[:, step - 1] / REMOVE if step else np.zeros(plans)
        costs = problem.costs.predict(levels)
        latency = costs["latency"]
        constants = [
            step / self.groups,
            problem.input_mean,
            problem.input_variance,
            (problem.temperature_c or 0.0) / 100,
            *(problem.limits.get(metric, 1.0) for metric in ("latency", "energy", "power", "size")),
        ]
        columns = [
            previous,
            latency,
            costs.get("power", np.ones(plans)),
            self.excess(levels),
            self.accuracy.expected(levels) / problem.base_accuracy,
        ]
        state = np.concatenate([np.stack(columns, 1), np.tile([*constants, *layer], (plans, 1))], 1)
        clipped: Array = np.clip(state, -5.0, 5.0)
        return clipped

    def potential(self, levels: Indices) -> Array:
        """Return the reward that plans promise, (plans,): predicted where nothing is measured yet.

        The difference between two steps is the reward of the step between them (PuRL's reward at every step), so that
        the rewards of an episode add up to the plan's own and the best plan stays the best.
        """
        problem = self.problem
        weights = problem.weights
        costs = problem.costs.predict(levels)
        rows = np.arange(self.groups)
        gone = 1 - self._kept[rows, levels]
        value = np.mean(weights.alpha) * self.accuracy.expected(levels) / problem.base_accuracy
        value = value - weights.latency * costs["latency"]
        value = value - (np.asarray(weights.gamma) * gone).mean(1)
        value = value - (np.asarray(weights.lambda_) * np.array(LEVELS)[levels] / 100).mean(1)
        if "power" in costs:
            value = value - np.mean(weights.beta) * costs["power"]
        return np.asarray(value)

    def promise(self, levels: Indices) -> Array:
        """Return the predicted reward of whole plans, violations included, (plans,)."""
        return self.potential(levels) - self.problem.weights.violation * self.excess(levels)

    def plan(self, levels: Sequence[int]) -> PruningPlan:
        """Return level indices as a plan."""
        return PruningPlan(levels=tuple(LEVELS[int(i)] for i in levels), criterion=self.problem.criterion)

    def key(self, levels: Sequence[int]) -> str:
        """Return the canonical name of level indices."""
        return self.problem.space.key(self.plan(levels).levels)


def indices(plan: PruningPlan) -> list[int]:
    """Return a plan's levels as indices into LEVELS."""
    return [LEVELS.index(level) for level in plan.levels]


def _layer_features(problem: Problem) -> Array:
    """Return each group's own features, all about one in size, (groups, features)."""
    space = problem.space
    latency = problem.costs.tables["latency"].savings
    rows = []
    for i, group in enumerate(space.groups):
        savings = np.nan_to_num(latency[i])
        rows.append(
            [
                i / len(space.groups),
                np.log2(group.channels) / 10,
                group.macs / space.macs,
                group.parameters / space.parameters,
                group.kernel / 7,
                group.stride / 2,
                float(group.bypass is not None),
                *(savings[1:]),
                *(float(level in group.kept) for level in LEVELS[1:]),
                *(np.arange(len(space.groups)) == i).astype(float),
            ]
        )
    return np.array(rows)
