"""The edge-aware DQN: double, dueling, n-step, prioritised, masked; it learns mostly from imagined episodes.

A real evaluation costs seconds, an imagined one microseconds. So each plan that comes back measured refits two models
(accuracy: a Gaussian process; cost: the board's tables), the network plays a burst of episodes against them, and the
next plan is picked from its rollouts: by promise and by ignorance in turn, towards the end by promise.

    van Hasselt et al. 2016 (double), Wang et al. 2016 (dueling), Schaul et al. 2016 (prioritised replay),
    Sutton & Barto ch. 7 (n-step), Ng et al. 1999 (potential-based rewards), Sutton 1990 (Dyna: imagined episodes)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from pipeline.config import DqnConfig
from pipeline.cost.accuracy import AccuracyModel, accuracy_of
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.planning import REMOVE, Array, Indices, Outlook, Planner, indices
from pipeline.search.strategies.random import draw, unasked
from pipeline.search.strategy import Problem

_VECTOR = 500
"""Episodes that are imagined side by side."""
_POOL = 300
"""Rollouts among which the next plan is picked."""
_IMPORTANCE = 0.4
"""Exponent of the weights that undo what prioritised drawing prefers."""
_EXPLORE_UNTIL = 0.6
"""Share of the trials after which plans are picked to be good rather than to be learnt from."""
_LATE_HOPES = (0.0, 0.5)
"""Deviations above the mean that count from then on, in turns."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: a second one brings nothing to matrices this small, and on busy cores waits for ever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


class QNetwork(nn.Module):
    """State → value of each level: V + A − mean(A), two hidden layers."""

    def __init__(self, observation: int, hidden: int) -> None:
        """Build for observations of a size."""
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observation, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value = nn.Linear(hidden, 1)
        self.advantage = nn.Linear(hidden, len(LEVELS))

    def forward(self, observation: Tensor) -> Tensor:
        """Return Q, (batch, levels)."""
        features = self.body(observation)
        advantage: Tensor = self.advantage(features)
        value: Tensor = self.value(features)
        return value + advantage - advantage.mean(1, keepdim=True)


class Replay:
    """Plans, each worth one transition a group; what they earned is computed anew when the models have learnt."""

    def __init__(self, planner: Planner, settings: DqnConfig) -> None:
        """Hold at most ``settings.replay_plans`` imagined plans, and all measured ones."""
        self._planner, self._settings = planner, settings
        self.plans: Indices = planner.blank(0)
        self._is_measured = np.zeros(0, dtype=bool)
        self._weights = np.zeros((0, planner.groups), np.float32)
        """Priorities to the power of the exponent: chances of being drawn."""
        self.measured: dict[tuple[int, ...], float] = {}
        """Plans whose reward is known, not predicted."""

    def add(self, plans: Indices) -> None:
        """Take in imagined plans; the oldest go first."""
        self._append(plans, measured=False)
        imagined = np.flatnonzero(~self._is_measured)
        self._keep(np.setdiff1d(np.arange(len(self.plans)), imagined[: -self._settings.replay_plans]))

    def add_measured(self, plan: Sequence[int], reward: float) -> None:
        """Take in a plan whose reward is known; it stays."""
        self.measured[tuple(plan)] = reward
        self._append(np.array([plan]), measured=True)

    def label(self) -> None:
        """Compute states, masks and n-step returns of all plans under the models as they are now."""
        planner, plans = self._planner, self.plans
        groups, size = planner.groups, len(plans)
        prefixes = [np.where(np.arange(groups) < step, plans, 0) for step in range(groups + 1)]
        outlook = self._outlook(np.concatenate(prefixes))
        parts = [_rows(outlook, slice(s * size, (s + 1) * size)) for s in range(groups + 1)]
        seen = list(enumerate(zip(prefixes, parts, strict=True)))
        self._states = np.stack([planner.observe(p, s, o) for s, (p, o) in seen], 1).astype(np.float32)
        masks = [planner.mask(p, s) for s, p in enumerate(prefixes[:-1])]
        self._masks = np.stack([*masks, np.ones_like(masks[0])], 1)
        potentials = np.stack([planner.potential(p, o) for _, (p, o) in seen], 1)
        potentials[:, -1] = planner.promise(plans, parts[-1])
        for i in np.flatnonzero(self._is_measured):
            potentials[i, -1] = self.measured[tuple(plans[i].tolist())]
        self._ends = np.minimum(np.arange(groups) + self._settings.n_step, groups)
        self._returns = self._summed(np.diff(potentials, axis=1)).astype(np.float32)

    def sample(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], dict[str, Tensor]]:
        """Return flat positions and a batch, drawn by priority."""
        weights = self._weights.ravel()
        sums = weights.cumsum(dtype=np.float64)
        flat = np.searchsorted(sums, rng.random(self._settings.batch_size) * sums[-1])
        flat = np.minimum(flat, len(sums) - 1)
        plan, step = np.divmod(flat, self._planner.groups)
        end = self._ends[step]
        importance = (sums[-1] / (weights[flat] * len(sums))) ** _IMPORTANCE
        bootstrap = (end < self._planner.groups) * self._settings.discount ** (end - step)
        batch = {
            "state": self._states[plan, step],
            "action": self.plans[plan, step],
            "return": self._returns[plan, step],
            "next": self._states[plan, end],
            "mask": self._masks[plan, end],
            "bootstrap": bootstrap.astype(np.float32),
            "importance": (importance / importance.max()).astype(np.float32),
        }
        return flat, {name: torch.from_numpy(values) for name, values in batch.items()}

    def reprioritise(self, flat: NDArray[np.int64], errors: NDArray[np.float32]) -> None:
        """Set the priorities of sampled transitions by their temporal-difference errors."""
        self._weights.ravel()[flat] = (np.abs(errors) + 1e-3) ** self._settings.priority

    def _append(self, plans: Indices, *, measured: bool) -> None:
        fresh = np.full(plans.shape, self._weights.max(initial=1.0), np.float32)
        self.plans = np.concatenate([self.plans, plans])
        self._is_measured = np.concatenate([self._is_measured, np.full(len(plans), measured)])
        self._weights = np.concatenate([self._weights, fresh])

    def _keep(self, rows: Indices) -> None:
        self.plans, self._is_measured, self._weights = self.plans[rows], self._is_measured[rows], self._weights[rows]

    def _outlook(self, levels: Indices) -> Outlook:
        """Return the planner's outlook; of plans that stand here many times, as beginnings do, it is asked once."""
        multipliers = np.random.default_rng(0).integers(1, 2**62, levels.shape[1]) | 1
        _, first, back = np.unique(levels @ multipliers, return_index=True, return_inverse=True)
        return _rows(self._planner.outlook(levels[first]), back)

    def _summed(self, rewards: Array) -> Array:
        """Return the discounted sums of n rewards from each step on, (plans, groups)."""
        n, groups = self._settings.n_step, rewards.shape[1]
        padded = np.concatenate([rewards, np.zeros((len(rewards), n))], 1)
        return sum(
            (self._settings.discount**k * padded[:, k : k + groups] for k in range(n)), start=np.zeros_like(rewards)
        )


def _rows(outlook: Outlook, rows: slice | Indices) -> Outlook:
    costs = {metric: values[rows] for metric, values in outlook.costs.items()}
    return Outlook(costs, outlook.accuracy[rows], outlook.excess[rows])


class Dqn:
    """Asks for probes of single groups first, then for what its network, trained on imagined episodes, picks."""

    def __init__(self, problem: Problem) -> None:
        """Build network, models and replay; nothing is trained yet."""
        self._problem, self._settings = problem, problem.dqn
        self._accuracy = AccuracyModel(problem.base_accuracy, problem.images)
        self._planner = Planner(problem, self._accuracy)
        self._rng = np.random.default_rng(problem.seed)
        with torch.random.fork_rng():
            torch.manual_seed(problem.seed)
            self._online = QNetwork(self._planner.observation_size, self._settings.hidden)
        self._target = copy.deepcopy(self._online)
        self._optimizer = torch.optim.Adam(self._online.parameters(), lr=self._settings.learning_rate, fused=True)
        self._replay = Replay(self._planner, self._settings)
        self._asked: set[tuple[int, ...]] = set()
        self._probes = _single_cuts(self._planner, problem.trials // 3)
        self._told: list[tuple[list[int], float]] = []
        self._picks = 0

    def ask(self) -> PruningPlan:
        """Return the next plan; trains the network first unless a probe is due."""
        with _one_thread():
            levels = self._probes.pop(0) if self._probes else self._learnt_pick()
        self._asked.add(tuple(levels))
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        if trial.candidate is None:
            return
        levels = indices(trial.plan)
        self._told.append((levels, trial.candidate.accuracy))
        if trial.reward is not None:
            self._replay.add_measured(levels, trial.reward)

    # ------------------------------------------------------------ learn

    def _learnt_pick(self) -> list[int]:
        if self._told:
            self._accuracy.fit(*map(list, zip(*self._told, strict=True)))
        first = self._picks == 0
        self._imagine(self._settings.first_imagined if first else self._settings.imagined)
        self._replay.label()
        for _ in range(self._settings.first_updates if first else self._settings.updates):
            self._update()
        levels = self._pick()
        self._picks += 1
        return levels

    def _imagine(self, episodes: int) -> None:
        """Play episodes against the models, with fewer random levels as the search goes on."""
        epsilon = self._settings.exploration * (1 - 0.75 * min(1.0, self._picks / 8))
        if self._picks == 0 and episodes:
            self._replay.add(draw(self._planner, episodes // 2, self._rng))
            episodes //= 2
        for start in range(0, episodes, _VECTOR):
            self._replay.add(self._rollout(min(_VECTOR, episodes - start), epsilon))
        if len(self._replay.plans) == 0:
            self._replay.add(draw(self._planner, _VECTOR, self._rng))

    def _update(self) -> None:
        """One step of double Q-learning on a prioritised batch."""
        flat, batch = self._replay.sample(self._rng)
        with torch.no_grad():
            following = self._online(batch["next"]).masked_fill(~batch["mask"], -torch.inf).argmax(1, keepdim=True)
            bootstrap = self._target(batch["next"]).gather(1, following).squeeze(1)
            wanted = batch["return"] + batch["bootstrap"] * bootstrap
        found = self._online(batch["state"]).gather(1, batch["action"][:, None]).squeeze(1)
        loss = (batch["importance"] * nn.functional.smooth_l1_loss(found, wanted, reduction="none")).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self._target.parameters()), list(self._online.parameters()), self._settings.target_rate
            )
        self._replay.reprioritise(flat, (wanted - found.detach()).numpy())

    # ------------------------------------------------------------ act

    def _rollout(self, plans: int, epsilon: float) -> Indices:
        """Return plans played by the network, a share ``epsilon`` of the levels at random, (plans, groups)."""
        levels = self._planner.blank(plans)
        for step in range(self._planner.groups):
            mask = self._planner.mask(levels, step)
            state = torch.from_numpy(self._planner.observe(levels, step).astype(np.float32))
            with torch.no_grad():
                values = self._online(state).numpy()
            noise = self._rng.random(mask.shape)
            explore = self._rng.random((plans, 1)) < epsilon
            levels[:, step] = np.where(mask, np.where(explore, noise, values), -np.inf).argmax(1)
        return levels

    def _pick(self) -> list[int]:
        """Return a new plan: of those that the network plays, and of neighbours of the best, the most hopeful."""
        pool = np.concatenate([self._rollout(1, 0.0), self._rollout(_POOL, 0.15), self._near_the_best()])
        fresh = self._not_asked(np.unique(pool, axis=0))
        if len(fresh) == 0:
            fresh = self._not_asked(draw(self._planner, _POOL, self._rng))
        if len(fresh) == 0:
            return list(unasked(self._planner, self._asked))
        mean, deviation = self._accuracy.predict(fresh)
        gain = accuracy_of(mean + self._hope(len(fresh)) * deviation) - accuracy_of(mean)
        scores = (
            self._planner.promise(fresh) + np.mean(self._problem.weights.alpha) * gain / self._problem.base_accuracy
        )
        return [int(level) for level in fresh[scores.argmax()]]

    def _not_asked(self, plans: Indices) -> Indices:
        return np.array([plan for plan in plans if tuple(plan.tolist()) not in self._asked], dtype=np.int64)

    def _hope(self, plans: int) -> float | Array:
        """Return how many deviations above the mean count: explore in turns at first, later take what is known best."""
        if len(self._asked) > _EXPLORE_UNTIL * self._problem.trials:
            return _LATE_HOPES[self._picks % len(_LATE_HOPES)]
        return (0.0, 1.0, self._rng.standard_normal(plans), 2.0)[self._picks % 4]

    def _near_the_best(self) -> Indices:
        """Return the best measured plans with one group decided anew, made legal again by the masks."""
        best = sorted(self._replay.measured, key=self._replay.measured.__getitem__, reverse=True)[:3]
        if not best:
            return self._planner.blank(0)
        wanted = np.repeat(np.array(best), 60, axis=0)
        rows = np.arange(len(wanted))
        wanted[rows, self._rng.integers(0, wanted.shape[1], len(rows))] = self._rng.integers(0, REMOVE + 1, len(rows))
        return _legalised(self._planner, wanted)


def _legalised(planner: Planner, wanted: Indices) -> Indices:
    """Return plans as near to the wanted ones as the masks allow, group by group."""
    levels = planner.blank(len(wanted))
    for step in range(planner.groups):
        distance = np.abs(np.arange(len(LEVELS)) - wanted[:, step, None])
        levels[:, step] = np.where(planner.mask(levels, step), distance, np.inf).argmin(1)
    return levels


def _single_cuts(planner: Planner, most: int) -> list[list[int]]:
    """Return plans that cut one group as deep as it goes: what teaches the accuracy model most for a start."""
    plans = []
    for i, group in enumerate(planner.problem.space.groups):
        levels = [0] * planner.groups
        levels[i] = LEVELS.index(max(group.levels))
        for j, other in enumerate(planner.problem.space.groups):
            if levels[i] == REMOVE and other.bypass == group.bypass and group.bypass is not None:
                levels[j] = REMOVE
        if levels not in plans:
            plans.append(levels)
    spread: Sequence[int] = np.linspace(0, len(plans) - 1, max(0, min(most, len(plans)))).round().astype(int).tolist()
    return [plans[i] for i in sorted(set(spread))]


def create(problem: Problem) -> Dqn:
    """Return the strategy."""
    return Dqn(problem)
