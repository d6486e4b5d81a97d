"""Multiple-choice knapsack: one level a group, enough saved, as little lost as possible.

Solved by dynamic programming over what is saved, in steps of the saving that is needed (Sinha and Zoltners, The
Multiple-Choice Knapsack Problem, 1979). Savings and losses are those of single cuts and count as if they added up; of
real networks they do so only about, so plans of several sums are returned, to be looked at by better models. Each
saving is rounded to a step, so the sum of a plan is off by about one percent at thirty groups, by ten at worst: what is
lightest for a sum is so but for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.cost_model import within
from pipeline.search.planner import REMOVE, Array, Indices, Limits, Planner, repair_to_feasible

_BINS = 150
"""Steps of what is needed."""
_LEAST, _MOST = 0.8, 1.5
"""Savings as added up for which plans are returned, over what is needed."""


def knapsack_plans(planner: Planner, loss: Array, limits: Limits | None = None) -> Indices:
    """Return plans that lose little and, made legal by the masks, meet the targets, (plans, groups), none twice.

    Args:
        planner: whose predicted costs say what single cuts save.
        loss: of single cuts, (groups, levels), in a unit in which losses add up: logits.
        limits: the targets, one each; the problem's where there are none.
    """
    cuts = planner.single_cuts()
    costs = planner.problem.costs.predict(np.concatenate([planner.empty_plans(1), cuts.reshape(-1, planner.groups)]))
    needs = []
    for metric, limit in (planner.problem.limits if limits is None else limits).items():
        needed = float(costs[metric][0] - limit) if metric in costs else 0.0
        if needed > 0:
            needs.append((costs[metric][0] - costs[metric][1:]).reshape(cuts.shape[:2]) / needed)
    if not needs:
        return planner.empty_plans(1)
    ways = [*needs, np.minimum.reduce(needs)] if len(needs) > 1 else needs
    plans = np.concatenate(
        [_lightest(savings, loss, planner.options(), planner.owner, planner.parent) for savings in ways]
    )
    return np.unique(repair_to_feasible(planner, plans, limits), axis=0)


@dataclass(frozen=True, slots=True)
class _Table:
    """For each amount saved the lightest plan: what it loses, (bins,), and its levels, (bins, groups)."""

    loss: Array
    plans: Indices

    def extended(self, groups: NDArray[np.int64], level: int, saving: float, loss: float) -> _Table:
        """Return the table with one level chosen for some more groups; what is over the last bin falls into it."""
        bins = len(self.loss)
        steps = min(bins - 1, max(0, round(saving * _BINS)))
        source = np.arange(bins) - steps
        source[-1] = bins - 1 - steps + self.loss[bins - 1 - steps :].argmin()
        lost = np.where(source >= 0, self.loss[source] + loss, np.inf)
        plans = self.plans[source]
        plans[:, groups] = level
        return _Table(lost, plans)


def _lightest(
    savings: Array, loss: Array, options: NDArray[np.bool_], owner: NDArray[np.int64], parent: NDArray[np.int64]
) -> Indices:
    """Return the lightest plans for savings from less to more than 1, the sum that is needed, (plans, groups)."""
    bins, groups = round(_MOST * _BINS) + 1, len(savings)
    start = np.full(bins, np.inf)
    start[0] = 0.0
    table = _Table(start, np.zeros((bins, groups), dtype=np.int64))

    def decided(table: _Table, first: int) -> tuple[_Table, list[int]]:
        """Return the table with a block decided, or a group that is in none, and all groups that it decides."""
        stays, whole = table, [int(group) for group in np.flatnonzero(owner == first)]
        for group in list(whole):
            levels = np.flatnonzero(options[group, :REMOVE]).tolist()
            stays = _lighter(
                stays.extended(np.array([group]), level, savings[group, level], loss[group, level]) for level in levels
            )
        for inner in inside.get(first, ()):
            stays, more = decided(stays, inner)
            whole += more
        if options[first, REMOVE]:
            gone = table.extended(np.array(whole), REMOVE, savings[first, REMOVE], loss[first, REMOVE])
            stays = _lighter([stays, gone])
        return stays, whole

    inside: dict[int, list[int]] = {}
    for inner, around in within(owner, parent).items():
        inside.setdefault(around, []).append(inner)
    for first in np.flatnonzero(parent == np.arange(groups)).tolist():
        table, _ = decided(table, first)
    wanted = np.arange(round(_LEAST * _BINS), bins)
    return table.plans[wanted[np.isfinite(table.loss[wanted])]]


def _lighter(tables: Iterable[_Table]) -> _Table:
    """Return for each amount saved the lightest of several tables' plans."""
    several = list(tables)
    losses = np.stack([table.loss for table in several])
    best = losses.argmin(0)
    bins = np.arange(losses.shape[1])
    return _Table(losses[best, bins], np.stack([table.plans for table in several])[best, bins])
