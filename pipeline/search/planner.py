"""Planner: the MDP over layers, vectorised over plans: states, legal levels, predicted rewards.

A plan grows from the first group to the last. At each step the learner sees the group's features, what the plan so far
is predicted to have (accuracy, latency, power, relative to the base), the target, and AKPERL's input statistics and
operating condition.

A level is open where the group has it and the target stays reachable: the plan, completed with every later group cut as
deep as it goes, is predicted to cost no more than ``BEYOND`` over the target. What is predicted is what single cuts
add up to, and how far measured candidates say that such a plan is off that sum. A completion in reach is so at the next
group too, so that no plan runs into a dead end, and at the last group the plan itself is judged. A plan is lost
only if it is predicted to cost less than its completion. All strategies, rollouts, simulated plans and bootstraps go by
this one mask; a plan that is known whole is feasible or not by its own prediction.

The target is the problem's unless ``limits`` say otherwise, one for all plans or one for each: so a learner that
simulates plans for many targets knows how to plan for any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.accuracy import AccuracyModel
from pipeline.predictors.cost_model import owners, parents, whole_blocks
from pipeline.records import LEVELS, PruningPlan
from pipeline.search.proposer_settings import Part
from pipeline.search.reachability import Reach
from pipeline.search.strategy import Problem
from pipeline.targets import Metric

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Limits = Mapping[Metric, "float | Array"]
"""Each target as a share of the base model's figure: one for all plans, or (plans,)."""

REMOVE = len(LEVELS) - 1
_SHARES = np.array(LEVELS) / 100
_PREDICTED = 5
"""Features of the state that a plan's own levels decide."""
_TARGETS: tuple[Metric, ...] = ("latency", "energy", "power", "size")
BEYOND = 0.02
"""Plans that are predicted to miss a target by so much of it are open too: they may meet it all the same."""
_ROUNDING = 1e-9
"""A cost may be over its limit by as much as sums of floats differ."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is predicted of plans, (plans,) each."""

    costs: Mapping[Metric, Array]
    """Over the base model's, in the metrics that matter."""
    accuracy: Array
    """Over the base model's."""
    excess: Array
    """Over the targets, relative to them."""


class Planner:
    """The rules of the game, vectorised over plans; level *indices* (into LEVELS) throughout."""

    def __init__(self, problem: Problem, accuracy: AccuracyModel | None = None, ablate: Sequence[Part] = ()) -> None:
        """Read the problem.

        Args:
            accuracy: may learn on while the planner is in use; None: one that knows nothing.
            ablate: parts to leave out, for ablation studies.
        """
        self.problem = problem
        self._ablated = ablate
        self.accuracy = accuracy or AccuracyModel(problem.space, problem.base_accuracy, problem.images)
        self.groups = len(problem.space.groups)
        self._kept = np.array(
            [[g.kept.get(lv, -1) / g.channels for lv in LEVELS] for g in problem.space.groups], dtype=float
        )
        self.owner = owners(problem.space)
        """For each group the first group of its block, or itself."""
        self.parent = parents(problem.space)
        """For each group the one before it whose removal takes it along, or itself."""
        self._reach = {metric: Reach(table) for metric, table in problem.costs.tables.items()}
        self.slack = (1 + BEYOND) / (1 - problem.margin)
        """Plans are considered up to so many times the limits."""
        self._metrics: set[Metric] = {"latency", "power", *problem.limits}
        """That the state shows, or the reward or a target goes by."""
        self.features = _layer_features(problem)
        """Each group's own, all about one in size, (groups, features)."""
        self.observation_size = self.observe(self.empty_plans(1), 0).shape[1]

    def empty_plans(self, plans: int) -> Indices:
        """Return ``plans`` plans that cut nothing yet, (plans, groups)."""
        return np.zeros((plans, self.groups), dtype=np.int64)

    # ------------------------------------------------------------ legal levels

    def mask(self, levels: Indices, step: int, limits: Limits | None = None) -> Mask:
        """Return which levels are open for group ``step`` of plans decided up to it, (plans, levels)."""
        legal = self.legal(levels, step)
        if "mask" in self._ablated:
            return legal
        best = self._lowest_excess(levels, step, self.relaxed_limits(limits))
        reachable = legal & (best <= _ROUNDING)
        stuck = ~reachable.any(1)
        if stuck.any():  # nothing reaches the target any more: the deepest cut comes nearest
            best = np.where(legal, best, np.inf)
            reachable[stuck] = np.arange(len(LEVELS)) == best[stuck].argmin(1)[:, None]
        return reachable

    def deepest(self, levels: Indices, step: int) -> Indices:
        """Return the level of group ``step`` that brings plans decided up to it nearest to the targets, (plans,)."""
        excess = self._lowest_excess(levels, step, self.problem.limits)
        nearest: Indices = np.where(self.legal(levels, step), excess, np.inf).argmin(1)
        return nearest

    def relaxed_limits(self, limits: Limits | None = None) -> Limits:
        """Return the limits up to which plans are considered: relaxed a little, and without the margin."""
        return {metric: limit * self.slack for metric, limit in self._limits(limits).items()}

    def can_meet(self, levels: Indices, limits: Limits | None = None) -> NDArray[np.bool_]:
        """Return which whole plans are legal and predicted to meet the relaxed limits, (plans,)."""
        rows = np.arange(len(levels))
        legal = np.all([self.legal(levels, step)[rows, levels[:, step]] for step in range(self.groups)], axis=0)
        if "mask" not in self._ablated:
            legal &= self.excess(levels, self.relaxed_limits(limits)) == 0
        return np.asarray(legal)

    def excess(self, levels: Indices, limits: Limits | None = None) -> Array:
        """Return by how much whole plans are predicted to exceed the targets, relative to them, (plans,)."""
        return self._excess(self.problem.costs.predict(levels), len(levels), limits)

    def _excess(self, costs: Mapping[Metric, Array], plans: int, limits: Limits | None) -> Array:
        total = np.zeros(plans)
        for metric, limit in self._limits(limits).items():
            if metric in costs:
                over = costs[metric] / limit - 1
                total += np.where(over > _ROUNDING, over, 0.0)
        return total

    def _limits(self, limits: Limits | None) -> Limits:
        return self.problem.limits if limits is None else limits

    def legal(self, levels: Indices, step: int) -> Mask:
        """Return which levels group ``step`` has, whatever the target, (plans, levels)."""
        legal = np.broadcast_to(self._kept[step] >= 0, (len(levels), len(LEVELS))).copy()
        parent = self.parent[step]
        if parent != step:  # the first group of the block, or of the one around it, has decided whether that goes
            gone = levels[:, parent] == REMOVE
            legal[gone] = np.arange(len(LEVELS)) == REMOVE
            legal[~gone, REMOVE] &= self.owner[step] == step
        return legal

    def _lowest_excess(self, levels: Indices, step: int, limits: Limits) -> Array:
        """Return the worst excess over limits, relative to them, with all later groups cut deepest, (plans, levels)."""
        worst = np.full((len(levels), len(LEVELS)), -np.inf)
        for metric, limit in limits.items():
            if metric in self._reach:
                costs = self._reach[metric].completed(levels, step)
                worst = np.maximum(worst, costs / np.reshape(limit, (-1, 1)) - 1)
        return worst

    # ------------------------------------------------------------ states, predictions, rewards

    def predictions(self, levels: Indices, limits: Limits | None = None) -> Predictions:
        """Return what is predicted of plans; what is not decided yet counts as whole."""
        costs = self.problem.costs.predict(levels, self._metrics)
        accuracy = self.accuracy.expected(levels) / self.problem.base_accuracy
        return Predictions(costs, accuracy, self._excess(costs, len(levels), limits))

    def retarget(self, predicted: Predictions, limits: Limits) -> Predictions:
        """Return predictions with the excess over other targets."""
        return replace(predicted, excess=self._excess(predicted.costs, len(predicted.accuracy), limits))

    def observe(
        self, levels: Indices, step: int, predicted: Predictions | None = None, limits: Limits | None = None
    ) -> Array:
        """Return the state before group ``step`` is decided, (plans, features); after the last: of the whole plan.

        Args:
            predicted: of the same plans towards the same limits, where it is known already.
        """
        problem, plans = self.problem, len(levels)
        seen = predicted or self.predictions(levels, limits)
        wanted = self._limits(limits)
        layer = self.features[min(step, self.groups - 1)]
        seen_input = (*problem.input_mean, *problem.input_variance)
        if "input_statistics" in self._ablated:
            seen_input = (0.0,) * len(seen_input)
        constants = [step / self.groups, *seen_input, (problem.temperature_c or 0.0) / 100]
        first_constant = _PREDICTED + len(_TARGETS)
        state = np.empty((plans, first_constant + len(constants) + len(layer)))
        state[:, 0] = levels[:, step - 1] / REMOVE if step else 0.0
        state[:, 1] = seen.costs["latency"]
        state[:, 2] = 1.0 if "power" in self._ablated else seen.costs.get("power", 1.0)
        state[:, 3] = seen.excess
        state[:, 4] = seen.accuracy
        for place, metric in enumerate(_TARGETS, _PREDICTED):
            state[:, place] = wanted.get(metric, 1.0)
        state[:, first_constant:] = [*constants, *layer]
        clipped: Array = np.clip(state, -5.0, 5.0)
        return clipped

    def potential(
        self, levels: Indices, predicted: Predictions | None = None, own_weights: Array | None = None
    ) -> Array:
        """Return the shaping potential of plans (Ng et al. 1999), (plans,): their predicted reward without violations.

        The difference between two steps is the reward of the step between them (PuRL's reward at every step, with
        AKPERL's weights of its layer), so that the rewards of an episode add up to the plan's own and the best plan
        stays the best.

        Args:
            own_weights: what groups' own weights of accuracy and power add, where it is known already.
        """
        weights = self.problem.weights
        seen = predicted or self.predictions(levels)
        whole = whole_blocks(levels, self.owner, self.parent)
        gone = 1 - self._kept[np.arange(self.groups), whole]
        value = np.mean(weights.alpha) * seen.accuracy - weights.latency * seen.costs["latency"]
        value = value - gone @ np.asarray(weights.gamma) / self.groups
        value = value - _SHARES[whole] @ np.asarray(weights.lambda_) / self.groups
        if "power" in seen.costs:
            value = value - np.mean(weights.beta) * seen.costs["power"]
        if not weights.differ:
            return np.asarray(value)
        if own_weights is None:
            begun = [self.predictions(self.begun(levels, step)) for step in range(self.groups)]
            own_weights = self.own_weights([*begun, seen])[-1]
        return np.asarray(value + own_weights)

    def begun(self, levels: Indices, step: int) -> Indices:
        """Return plans as they are before group ``step`` is decided, (plans, groups)."""
        return np.where(np.arange(self.groups) < step, levels, 0)

    def own_weights(self, predicted: Sequence[Predictions]) -> Array:
        """Return what groups' own α and β add to the potential that their means give, (groups + 1, plans).

        Args:
            predicted: of plans before each group is decided, and once they are whole.
        """
        weights = self.problem.weights

        def summed(own: Sequence[float], seen: Sequence[Array]) -> Array:
            beyond = np.asarray(own) - np.mean(own)
            changes = np.diff(np.stack(seen), axis=0)
            return np.concatenate([np.zeros_like(changes[:1]), np.cumsum(beyond[:, None] * changes, 0)])

        value = summed(weights.alpha, [part.accuracy for part in predicted])
        if all("power" in part.costs for part in predicted):
            value = value - summed(weights.beta, [part.costs["power"] for part in predicted])
        return value

    def predicted_reward(
        self,
        levels: Indices,
        predicted: Predictions | None = None,
        limits: Limits | None = None,
        own_weights: Array | None = None,
    ) -> Array:
        """Return the predicted reward of whole plans, violations included, (plans,); arguments as elsewhere."""
        seen = predicted or self.predictions(levels, limits)
        return self.potential(levels, seen, own_weights) - self.problem.weights.violation * seen.excess

    def single_cuts(self) -> Indices:
        """Return for each group and level the plan that cuts nothing else, legal or not, (groups, levels, groups)."""
        cuts = np.zeros((self.groups, len(LEVELS), self.groups), dtype=np.int64)
        every = np.arange(self.groups)
        cuts[every, :, every] = np.arange(len(LEVELS))
        return whole_blocks(cuts.reshape(-1, self.groups), self.owner, self.parent).reshape(cuts.shape)

    def options(self) -> Mask:
        """Return which levels each group has, (groups, levels); a block goes by its first group's level alone."""
        options: Mask = self._kept >= 0
        options[self.owner != np.arange(self.groups), REMOVE] = False
        return options

    def gone(self) -> Array:
        """Return the share of each group's channels that goes at each level, (groups, levels); 1 where it has none."""
        gone: Array = 1 - np.maximum(self._kept, 0.0)
        return gone

    def plan(self, levels: Sequence[int]) -> PruningPlan:
        """Return level indices as a plan."""
        return PruningPlan(levels=tuple(LEVELS[int(i)] for i in levels), criterion=self.problem.criterion)

    def every_plan(self, levels: Sequence[int] = ()) -> Iterator[tuple[int, ...]]:
        """Yield each plan within the masks that begins with ``levels``, none twice, shallow cuts first."""
        step = len(levels)
        if step == self.groups:
            yield tuple(levels)
            return
        begun = self.empty_plans(1)
        begun[0, :step] = levels
        for level in np.flatnonzero(self.mask(begun, step)[0]).tolist():
            yield from self.every_plan((*levels, level))


def repair_to_feasible(planner: Planner, wanted: Indices, limits: Limits | None = None) -> Indices:
    """Return feasible plans as near to the wanted ones as the masks allow, group by group, (plans, groups).

    Those that are feasible as they are stay so. A block whose first group says that it stays comes back with nothing
    cut in groups that went with it.

    Args:
        limits: the targets, one for all plans.
    """
    levels = np.where((wanted == REMOVE) & (wanted[:, planner.owner] != REMOVE), 0, wanted)
    changed = np.flatnonzero(~planner.can_meet(levels, limits))
    near = planner.empty_plans(len(changed))
    for step in range(planner.groups):
        distance = np.abs(np.arange(len(LEVELS)) - levels[changed, step, None])
        near[:, step] = np.where(planner.mask(near, step, limits), distance, np.inf).argmin(1)
    levels[changed] = near
    return levels


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
