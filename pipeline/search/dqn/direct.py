"""Direct DQN, as AKPERL describes it: the network is cut layer by layer, and measured after each pruning action.

State: the accuracy and power of the network as cut so far, both as measured, the input's mean and variance, the board's
temperature, and which layer is next. Action: 0, 25, 50, 75 or 100 % of it. Reward of the step that decides group i of n
groups, with figures over the base model's and Δ the change by this step:

    r_i = αi·ΔA_i − βi·ΔP_i − γi·I_i/n − λi·|a_i|/n − latency·ΔL_i     and, with the last, the missed target's penalty

(see ``search.reward``). An action that cuts nothing changes nothing, and networks that were measured before are known:
neither takes a trial. So an episode takes up to n trials; every network on the way is a
candidate like any other. Levels that a group does not have are not open; nothing else is masked. A run's target is
known to this learner by the penalty for missing it.

Of data under several conditions, each episode is played under one that is drawn. Every network's accuracy is known
under all of them, so that each step teaches under all of them, too; the state tells them apart by the input's mean and
variance of each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.predictors.cost_model import whole_blocks
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.dqn.q_network import Learner, one_thread
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import REMOVE, Array, Mask, Planner, indices
from pipeline.search.random_plans import unasked
from pipeline.search.reward import channels_gone
from pipeline.search.strategy import Problem, settings_of

_LEAST_EPSILON = 0.05
_EXPLORING = 0.6
"""Share of the trials over which ε falls from 1 to its least."""
_STALE = 20
"""Episodes in a row of known networks alone, each with more random levels, until any new plan will do."""

Levels = tuple[int, ...]
"""A plan cut so far, level indices; groups to come are whole."""


@dataclass(frozen=True, slots=True)
class _Network:
    """What is known of a network, over the base model's figures."""

    accuracy: tuple[float, ...]
    """Under each condition of the data; one figure where there are none."""
    power: float
    latency: float
    """Its term of the reward, as that of the violation."""
    violation: float


@dataclass(frozen=True, slots=True)
class _Step:
    """One pruning action; rewarded when both networks are known."""

    group: int
    before: Levels
    level: int
    after: Levels


class DirectDqn:
    """Plays episodes whose every action is a trial, ε-greedy, and learns from all known steps before the next."""

    def __init__(self, problem: Problem) -> None:
        """Build the network; nothing is trained yet."""
        self._problem, self._settings = problem, settings_of(problem, Settings)
        self._planner = Planner(problem)
        self._groups = self._planner.groups
        self._rng = np.random.default_rng(problem.seed)
        self._base: Levels = (0,) * self._groups
        self._seen = problem.of_each_condition()
        """The problem under each condition."""
        unpruned = _Network((1.0,) * len(self._seen), 1.0, -problem.weights.latency, 0.0)
        self._known: dict[Levels, _Network | None] = {self._base: unpruned}
        """Measured networks; None: one that failed."""
        self._asked: set[Levels] = {self._base}
        self._steps: dict[_Step, None] = {}
        """All that were taken, once each, in order."""
        self._group, self._current, self._under = 0, self._base, 0
        """Of the episode: the next group, the network so far, the number of its condition."""
        self._learner = Learner(self._state(0, self._base, 0).shape[0], self._settings, problem.seed)

    @property
    def condition(self) -> str:
        """Name of the condition of the data that the episode is played under; empty where there are none."""
        return self._problem.conditions[self._under].name if self._problem.conditions else ""

    def ask(self) -> PruningPlan:
        """Return the network after the next action that leads to one that is not known; learns first."""
        with one_thread():
            self._learn()
            levels = self._next_new()
        self._asked.add(levels)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in what the network after an action has; one that failed ends its episode as if it knew nothing."""
        levels = self._whole(indices(trial.plan))
        if trial.candidate is None or trial.reward is None:
            self._known[levels] = None
            return
        power, found = None if trial.measurement is None else trial.measurement.power_ratio, trial.candidate
        each = [found.accuracies[one.name] for one in self._problem.conditions] or [found.accuracy]
        self._known[levels] = _Network(
            accuracy=tuple(share / one.base_accuracy for share, one in zip(each, self._seen, strict=True)),
            power=1.0 if power is None else power.value,
            latency=trial.terms.get("latency", 0.0),
            violation=trial.terms.get("violation", 0.0),
        )

    def greedy(self, under: int = 0) -> Levels:
        """Return the plan that the network picks as it has learnt by now, under a condition of that number."""
        levels = self._base
        for group in range(self._groups):
            levels = self._cut(levels, group, self._best(group, levels, under))
        return levels

    # ------------------------------------------------------------ act

    def _next_new(self) -> Levels:
        for played in range(_STALE * self._groups):
            after = self._act(least_epsilon=played / (_STALE * self._groups))
            if after not in self._asked:
                return after
        return self._whole(unasked(self._planner, self._asked))

    def _act(self, least_epsilon: float) -> Levels:
        """Decide the episode's next group; return the network as cut so far."""
        group, before = self._group, self._current
        if group == 0 and len(self._seen) > 1:
            self._under = int(self._rng.integers(len(self._seen)))
        level = self._best(group, before, self._under)
        if self._rng.random() < max(self._epsilon, least_epsilon):
            level = int(self._rng.choice(np.flatnonzero(self._legal(group, before))))
        after = self._cut(before, group, level)
        self._steps[_Step(group, before, level, after)] = None
        failed = after in self._known and self._known[after] is None
        self._group = 0 if failed or group + 1 == self._groups else group + 1
        self._current = after if self._group else self._base
        return after

    def _best(self, group: int, levels: Levels, under: int) -> int:
        """Return the level of highest value for a group of a network cut up to it, under a condition."""
        values = self._learner.values(self._state(group, levels, under)[None])[0]
        return int(np.where(self._legal(group, levels), values, -np.inf).argmax())

    def _legal(self, group: int, levels: Levels) -> Mask:
        legal: Mask = self._planner.legal(np.array([levels]), group)[0]
        return legal

    def _cut(self, levels: Levels, group: int, level: int) -> Levels:
        return self._whole([*levels[:group], level, *levels[group + 1 :]])

    @property
    def _epsilon(self) -> float:
        share = min(1.0, (len(self._asked) - 1) / max(1.0, _EXPLORING * self._problem.trials))
        return 1.0 - (1.0 - _LEAST_EPSILON) * share

    def _whole(self, levels: Sequence[int]) -> Levels:
        """Return levels with all groups of a removed block removed, so that a network has one name."""
        found = whole_blocks(np.array([levels]), self._planner.owner, self._planner.parent)[0]
        return tuple(int(level) for level in found)

    def _state(self, group: int, levels: Levels, under: int) -> Array:
        """Return the state before a group is decided, under a condition; after the last: of the whole network."""
        problem, known = self._seen[under], self._last_known(levels)
        inputs = (*problem.input_mean, *problem.input_variance)
        if "input_statistics" in self._settings.ablate:
            inputs = (0.0,) * len(inputs)
        seen = [
            known.accuracy[under], 1.0 if "power" in self._settings.ablate else known.power, *inputs,
            (problem.temperature_c or 0.0) / 100, levels[group - 1] / REMOVE if group else 0.0,
        ]  # fmt: skip
        return np.array([*seen, *self._planner.features[min(group, self._groups - 1)]])

    def _last_known(self, levels: Levels) -> _Network:
        """Return what is known of a network, or, while it is being measured, of the one that it was cut from."""
        while (found := self._known.get(levels)) is None:
            levels = next((s.before for s in reversed(self._steps) if s.after == levels != s.before), self._base)
        return found

    # ------------------------------------------------------------ learn

    def _learn(self) -> None:
        """Take gradient steps on all steps whose networks are known, under each condition."""
        known = [s for s in self._steps if s.after in self._known and self._known.get(s.before) is not None]
        if not known:
            return
        steps = [(s, under) for under in range(len(self._seen)) for s in known]
        states = np.array([self._state(s.group, s.before, under) for s, under in steps], dtype=np.float32)
        following = np.array([self._state(s.group + 1, s.after, under) for s, under in steps], dtype=np.float32)
        rewards = np.array([self._reward(s, under) for s, under in steps], dtype=np.float32)
        ends = np.array([s.group + 1 == self._groups or self._known[s.after] is None for s, _ in steps])
        masks = np.array([self._open(s) for s, _ in steps])
        levels = np.array([s.level for s, _ in steps])
        for _ in range(self._settings.updates):
            rows = self._rng.integers(0, len(steps), self._settings.batch_size)
            batch = {
                "state": states[rows],
                "action": levels[rows],
                "return": rewards[rows],
                "next": following[rows],
                "mask": masks[rows],
                "bootstrap": (self._settings.discount * ~ends[rows]).astype(np.float32),
            }
            self._learner.update({name: torch.from_numpy(values) for name, values in batch.items()})

    def _open(self, step: _Step) -> Mask:
        """Return which levels the group after a step has; after the last one any."""
        if step.group + 1 == self._groups:
            return np.ones(len(LEVELS), dtype=bool)
        return self._legal(step.group + 1, step.after)

    def _reward(self, step: _Step, under: int) -> float:
        """Return r_i under a condition; a network that failed answers nothing right, and misses the targets whole."""
        weights, i, n = self._problem.weights, step.group, self._groups
        before, after = self._known[step.before], self._known[step.after]
        assert before is not None
        if after is None:
            return -weights.alpha[i] * before.accuracy[under] - weights.violation
        earned = weights.alpha[i] * (after.accuracy[under] - before.accuracy[under])
        earned -= weights.beta[i] * (after.power - before.power)
        earned += after.latency - before.latency
        earned -= (self._intensity(step.after) - self._intensity(step.before)) / n
        return earned + after.violation if i + 1 == n else earned

    def _intensity(self, levels: Levels) -> float:
        """Return what a network's cuts cost by themselves: the sum over groups of γi·I_i + λi·|a_i|."""
        weights = self._problem.weights
        gone = channels_gone(self._problem.space, tuple(LEVELS[level] for level in levels))
        taken = np.array(levels) / REMOVE
        return float(np.dot(gone, weights.gamma) + np.dot(taken, weights.lambda_))
