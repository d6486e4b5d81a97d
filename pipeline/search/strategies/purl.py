"""PuRL, its structured form: a DQN that picks thresholds of magnitude and is rewarded after every layer.

Gupta et al., Learning to Prune Deep Neural Networks via Reinforcement Learning, 2020 (arXiv 2007.04756; no code of
theirs is public, so that what the paper leaves open is chosen here). An episode goes through the network once:

- State: how far the episode is, the accuracy after the last cut, how much of the wanted saving is reached.
- Action: one of 23 thresholds in multiples of sigma. Theirs are of single weights, which lie around zero. Here they
  are of the norms of a group's filters, from the mean less 2.2 to the mean plus 2.2 of their standard deviation: the
  share of the filters below is rounded up to a legal level. A group has few levels, so neighbouring thresholds often
  mean the same one. Where the norms are not known they count as normally distributed.
- Reward at every step: −β · (max(1 − A/T_A, 0) + max(1 − P/T_P, 0)), with the accuracy A and T_A the base model's, and
  with P what the plan so far saves and T_P what the target asks; theirs is the sparsity.

The accuracy after every layer is what this costs: each plan on the way is an evaluation of its own, and most of them
are over the target by design; only an episode's last step meets it. Where the trials would not do for five episodes,
neighbouring groups share a step and a threshold. Plans seen before are not evaluated again, and what no whole episode
fits into at the end goes to neighbours of the best plan.

PuRL itself prunes single weights, of which this form knows nothing: zeros within a layer make no dense runtime faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import RunConfig
from pipeline.cost.accuracy import AccuracyModel
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.planning import Array, Planner, indices
from pipeline.search.repair import Levels, Repair
from pipeline.search.strategy import Problem

THRESHOLDS = tuple(round(-2.2 + 0.2 * i, 1) for i in range(23))
"""In standard deviations from the mean."""
BETA = 5.0
_DISCOUNT = 0.99
_EPISODES = 5
_EXPLORE = 0.6
"""Share of the trials in which random thresholds become rare."""
_LEAST_EPSILON = 0.05
_UPDATES, _BATCH, _RATE, _POLYAK = 20, 32, 3e-3, 0.05
_STALE = 10
"""Episodes in a row that lead to nothing new, each with more random thresholds, until chance helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed(Problem):
    """A problem whose filters' norms are known."""

    norms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class _Move:
    """One step of an episode; rewarded when both plans' accuracies are known."""

    step: int
    before: Levels
    action: int
    after: Levels


class Purl:
    """Plays episodes whose every step is a trial."""

    def __init__(self, problem: Problem) -> None:
        """Cut the groups into steps, and work out what each threshold means for each group."""
        self._problem = problem
        self._planner = Planner(problem, AccuracyModel(problem.base_accuracy, problem.images))
        self._rng = np.random.default_rng(problem.seed)
        self._repair = Repair(self._planner, self._rng)
        count = min(self._planner.groups, max(1, problem.trials // _EPISODES))
        self._steps = [part.tolist() for part in np.array_split(np.arange(self._planner.groups), count)]
        self._levels = _levels_of_thresholds(problem, self._repair.options)
        self._accuracy: dict[Levels, float] = {(0,) * self._planner.groups: problem.base_accuracy}
        """Of plans that were told; 0 of those that failed."""
        self._moves: list[_Move] = []
        self._asked: set[Levels] = set()
        self._step, self._now = 0, (0,) * self._planner.groups
        self._best: tuple[float, Levels] | None = None
        with torch.random.fork_rng():
            torch.manual_seed(problem.seed)
            self._online, self._target = _network(), _network()
        self._target.load_state_dict(self._online.state_dict())
        self._optimizer = torch.optim.Adam(self._online.parameters(), lr=_RATE)

    def ask(self) -> PruningPlan:
        """Return the plan after the episode's next step that leads to a new one."""
        with _one_thread():
            self._learn()
            levels = self._next_new()
        self._asked.add(levels)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a plan's accuracy: that of the network after this step."""
        levels = tuple(indices(trial.plan))
        failed = trial.reward is None or trial.candidate is None
        self._accuracy[levels] = 0.0 if failed or trial.candidate is None else trial.candidate.accuracy
        if trial.reward is not None and self._repair.excess([levels])[0] == 0:
            self._best = max((trial.reward, levels), self._best or (trial.reward, levels))

    # ------------------------------------------------------------ act

    def _next_new(self) -> Levels:
        for played in range(_STALE * len(self._steps)):
            if self._step == 0 and self._problem.trials - len(self._asked) < len(self._steps):
                break
            levels = self._played(least_epsilon=played / (_STALE * len(self._steps)))
            if levels not in self._asked and any(levels):
                return levels
        near = self._best[1] if self._best else self._now
        return self._repair.fresh(near, self._asked)

    def _played(self, least_epsilon: float) -> Levels:
        """Decide the episode's next groups; return the plan so far."""
        before, step = self._now, self._step
        action = self._action(least_epsilon)
        levels = np.array([before])
        for group in self._steps[step]:
            distance = np.abs(np.arange(len(LEVELS)) - self._levels[group][action])
            levels[0, group] = np.where(self._planner.mask(levels, group)[0], distance, np.inf).argmin()
        self._now = tuple(levels[0].tolist())
        self._moves.append(_Move(step, before, action, self._now))
        self._step = (step + 1) % len(self._steps)
        after = self._now
        if self._step == 0:
            self._now = (0,) * self._planner.groups
        return after

    def _action(self, least_epsilon: float) -> int:
        gone = len(self._asked) / (_EXPLORE * self._problem.trials)
        if self._rng.random() < max(_LEAST_EPSILON, least_epsilon, 1 - gone):
            return int(self._rng.integers(len(THRESHOLDS)))
        with torch.no_grad():
            values: Tensor = self._online(torch.from_numpy(self._states([(self._step, self._now)])))
        return int(values[0].argmax())

    # ------------------------------------------------------------ learn

    def _learn(self) -> None:
        """Double Q-learning on all steps whose accuracies are known."""
        known = [m for m in dict.fromkeys(self._moves) if m.before in self._accuracy and m.after in self._accuracy]
        if not known:
            return
        state = torch.from_numpy(self._states([(m.step, m.before) for m in known]))
        following = torch.from_numpy(self._states([(m.step + 1, m.after) for m in known]))
        action = torch.tensor([m.action for m in known])
        reward = torch.tensor([self._reward(m.after) for m in known], dtype=torch.float32)
        goes_on = torch.tensor([float(m.step + 1 < len(self._steps)) for m in known])
        for _ in range(_UPDATES):
            rows = torch.from_numpy(self._rng.integers(len(known), size=_BATCH))
            with torch.no_grad():
                best = self._online(following[rows]).argmax(1, keepdim=True)
                later = self._target(following[rows]).gather(1, best).squeeze(1)
            found = self._online(state[rows]).gather(1, action[rows, None]).squeeze(1)
            loss = nn.functional.smooth_l1_loss(found, reward[rows] + _DISCOUNT * goes_on[rows] * later)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(self._target.parameters()), list(self._online.parameters()), _POLYAK)

    def _reward(self, levels: Levels) -> float:
        accuracy = self._accuracy[levels] / self._problem.base_accuracy
        return -BETA * (max(1 - accuracy, 0.0) + max(1 - float(self._reached([levels])[0]), 0.0))

    def _states(self, at: Sequence[tuple[int, Levels]]) -> NDArray[np.float32]:
        """Return states, (plans, 3); of a plan that is not told yet, with the accuracy of the one before it."""
        steps = [step / len(self._steps) for step, _ in at]
        accuracies = [self._last_known(levels) / self._problem.base_accuracy for _, levels in at]
        return np.stack([steps, accuracies, self._reached([levels for _, levels in at])], 1).astype(np.float32)

    def _last_known(self, levels: Levels) -> float:
        while levels not in self._accuracy:
            levels = next(m.before for m in reversed(self._moves) if m.after == levels)
        return self._accuracy[levels]

    def _reached(self, plans: Sequence[Levels]) -> Array:
        """Return how much of the wanted saving plans reach, by the worst of the targets, (plans,); 1 without any."""
        costs = self._problem.costs.predict(np.array(plans))
        reached = np.ones(len(plans))
        for metric, limit in self._problem.limits.items():
            if metric in costs and limit < 1:
                reached = np.minimum(reached, (1 - costs[metric]) / (1 - limit))
        return reached


def _levels_of_thresholds(problem: Problem, options: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the level index that each threshold means for each group, (groups, thresholds)."""
    norms = problem.norms if isinstance(problem, Weighed) else [()] * len(options)
    found = []
    for group, own, sizes in zip(problem.space.groups, options, norms, strict=True):
        lost = [1 - group.kept[LEVELS[o]] / group.channels for o in own]
        shares = [below(threshold, sizes) for threshold in THRESHOLDS]
        found.append([next((o for o, gone in zip(own, lost, strict=True) if gone >= s), own[-1]) for s in shares])
    return found


def below(threshold: float, norms: Sequence[float]) -> float:
    """Return the share of norms under their mean and ``threshold`` standard deviations; without any, of a normal's.

    >>> below(0.0, (1.0, 2.0, 3.0, 10.0)), below(-2.2, (1.0, 2.0, 3.0, 10.0)), below(0.0, ())
    (0.75, 0.0, 0.5)
    """
    if not norms:
        return NormalDist().cdf(threshold)
    sizes = np.array(norms)
    return float((sizes < sizes.mean() + threshold * sizes.std()).mean())


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(THRESHOLDS)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: to matrices this small a second one brings nothing, and on busy cores it waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def weighed(problem: Problem, norms: tuple[tuple[float, ...], ...]) -> Weighed:
    """Return the problem with the norms of each group's filters; whoever has the network tells them."""
    return Weighed(**{field.name: getattr(problem, field.name) for field in fields(Problem)}, norms=norms)


def note(config: RunConfig) -> str | None:  # noqa: ARG001 — of every run
    """Return what a user of PuRL has to know: what is not done here."""
    return (
        "PuRL in its structured form: whole filters go, by a threshold of their norm. PuRL itself sets single weights "
        "to zero, which makes no dense runtime faster"
    )


def create(problem: Problem) -> Purl:
    """Return the strategy."""
    return Purl(problem)
