"""RL-Pruner: a learnt distribution of the cut over the groups, with Gaussian noise on every sample.

Wang and Kindratenko, RL-Pruner, 2024 (arXiv 2411.06463; github.com/Beryex/RLPruner-CNN), in its own terms:

- The policy is a probability vector PD over the groups, at first in proportion to their channels. A sample is
  PD + noise, noise ~ N(0, v²) · U(0, 1), clamped to at least 1e-5 and scaled to sum to 1.
- A replay buffer keeps the N best samples with their Q. After N samples PD goes a step λ towards the buffer's best row,
  or, with a chance ε that falls by a cosine, towards any of its rows.
- The step is clipped: each entry of PD changes by no more than a factor of 1 ± 0.2 (what they call PPO).
- Where the accuracy of the samples collapses, by more than 10 % against those before, PD begins again.

What differs here, and why:

- Q is the run's reward, read on the search split; theirs is read on the test split.
- They remove a share of all filters a step and fine-tune between steps, and so does a run of several rounds, each of
  which is a step here; PD goes on from one to the next (``carry``). Q does not look ahead (γ · its best child): a
  sample is one plan, cut at once, and has no child.
- How much is cut is not their share of the filters: it is the least for which the plan is predicted to meet the target.
  Without a target it is drawn between nothing and all.
- A sample says how many channels each group loses; the group takes the level whose share of lost channels is nearest,
  the shallower of two as near. They never remove a layer; here 100 % is the nearest level from about 87 % on.
- Samples that round to a plan that was tried before are drawn again, with more noise. A row holds what was drawn where
  it led to its plan, else what the plan itself cuts.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from pipeline.config import RunConfig
from pipeline.predictors.cost_model import whole_blocks
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.planner import REMOVE, Array, Indices, Planner, indices
from pipeline.search.repair import Levels, Repair
from pipeline.search.strategy import Problem, StrategySettings, settings_of

_UPDATES = 6
_FLOOR = 1e-5
_COLLAPSE = 0.1
_AMOUNTS, _MOST = 200, 1000
"""Amounts to cut among which the least that meets the target is looked for, the largest in channels of the network."""
_DRAWS = 12
_LOUDER = 1.3
"""By how much the noise of a sample grows each time that it led to nothing new."""


class Settings(StrategySettings):
    """RL-Pruner's own settings; the defaults are its authors'."""

    noise: float = Field(0.04, gt=0)
    """v, the largest deviation of a sample's noise."""
    step: float = Field(0.1, gt=0, le=1)
    """λ, by which the distribution goes towards a row of the buffer."""
    clip: float = Field(0.2, gt=0, lt=1)
    """Largest change of an entry of the distribution in a step, relative to it."""
    epsilon: float = Field(0.4, ge=0, le=1)
    """Chance, at first, that the row is any and not the best."""
    samples: int = Field(10, ge=2)
    """N, between two steps and in the buffer; fewer where the trials would not do for six steps."""
    carry: bool = True
    """With several rounds, which are RL-Pruner's pruning steps with fine-tuning between them: whether the distribution
    goes on from one to the next; false: it begins anew."""


class RlPruner:
    """Samples plans around a distribution and moves the distribution towards what was best."""

    def __init__(self, problem: Problem) -> None:
        """Begin with a cut in proportion to the channels."""
        self._problem, self._settings = problem, settings_of(problem, Settings)
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._repair = Repair(self._planner, self._rng)
        self._channels = np.array([group.channels for group in problem.space.groups], dtype=float)
        self._lost = np.full((self._planner.groups, len(LEVELS)), np.inf)
        """Share of the channels that go, (groups, levels); infinite where there is no such level."""
        for i, group in enumerate(problem.space.groups):
            for level, kept in group.kept.items():
                self._lost[i, LEVELS.index(level)] = 1 - kept / group.channels
        self.distribution: Array = self._first()
        """PD."""
        self._samples = max(2, min(self._settings.samples, problem.trials // _UPDATES))
        self._buffer: list[tuple[float, Array]] = []
        """Q and sample, best first."""
        self._drawn: dict[Levels, Array] = {}
        self._round: list[float] = []
        """Accuracies since the last update."""
        self._before: float | None = None
        """The best accuracy of the samples before the last update."""
        self._evaluated = 0

    def ask(self) -> PruningPlan:
        """Return a sample's plan, not asked before while there is one."""
        for attempt in range(_DRAWS):
            sample = self._sampled(self._settings.noise * _LOUDER**attempt)
            levels = self._cut(sample)
            if levels not in self._drawn:
                break
        else:
            levels = self._repair.propose_new(levels, self._drawn, tighten=False)
            sample = self._row(levels)
        self._drawn.setdefault(levels, sample)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take a trial into the buffer; after N of them, move the distribution."""
        self._evaluated += 1
        if trial.reward is not None and trial.candidate is not None:
            levels = tuple(indices(trial.plan))
            self._buffer.append((trial.reward, self._drawn.get(levels, self._row(levels))))
            self._buffer = sorted(self._buffer, key=lambda row: row[0], reverse=True)[: self._samples]
            self._round.append(trial.candidate.accuracy)
        if self._evaluated % self._samples == 0 and self._round:
            self._update()

    def carried(self) -> dict[str, float]:
        """Return PD as it is now, with which the next round begins."""
        groups = self._problem.space.groups
        return {group.name: float(share) for group, share in zip(groups, self.distribution, strict=True)}

    # ------------------------------------------------------------ the policy

    def _first(self) -> Array:
        """Return PD as the round before left it; of groups that it did not have, as of the first round, by channels."""
        even: Array = self._channels / self._channels.sum()
        carried = self._problem.carried
        if not carried or not self._settings.carry:
            return even
        return _scaled(
            np.array([carried.get(g.name, e) for g, e in zip(self._problem.space.groups, even, strict=True)])
        )

    def _sampled(self, noise: float) -> Array:
        drawn = self._rng.standard_normal(len(self._channels)) * noise * self._rng.random()
        return _scaled(self.distribution + drawn)

    def _update(self) -> None:
        accuracy, before = max(self._round), self._before
        self._round, self._before = [], accuracy
        if before is not None and accuracy < (1 - _COLLAPSE) * before:
            self.distribution = self._channels / self._channels.sum()
            return
        pick = int(self._rng.integers(len(self._buffer))) if self._rng.random() < self._epsilon() else 0
        old = self.distribution
        wanted = _scaled(old + self._settings.step * (self._buffer[pick][1] - old))
        clip = self._settings.clip
        self.distribution = _scaled(np.clip(wanted / old, 1 - clip, 1 + clip) * old)

    def _epsilon(self) -> float:
        gone = min(1.0, self._evaluated / self._problem.trials)
        return float(self._settings.epsilon * 0.5 * (1 + np.cos(np.pi * gone)))

    # ------------------------------------------------------------ from shares to levels

    def _cut(self, sample: Array) -> Levels:
        """Return the plan of a sample that cuts the least for which the target is predicted to be met."""
        amounts = np.geomspace(1.0, _MOST * self._channels.sum(), _AMOUNTS)
        if not self._problem.limits:
            amounts = self._rng.choice(amounts, 1)
        shares = np.minimum(amounts[:, None] * sample / self._channels, 1.0)
        plans = self._levels(shares)
        met = np.flatnonzero(self._planner.excess(plans) == 0)
        return self._repair.make_feasible(plans[met[0] if len(met) else -1].tolist())

    def _levels(self, shares: Array) -> Indices:
        """Return the levels that lose the share of channels nearest to what is wanted, (plans, groups)."""
        lost = self._lost.copy()
        owner, parent = self._planner.owner, self._planner.parent
        lost[owner != np.arange(len(lost)), REMOVE] = np.inf  # a block goes by its first group
        nearest: Indices = np.abs(lost - shares[:, :, None]).argmin(2)
        return whole_blocks(nearest, owner, parent)

    def _row(self, levels: Levels) -> Array:
        """Return what a plan cuts, as a distribution."""
        return _scaled(self._lost[np.arange(len(levels)), levels] * self._channels)


def _scaled(distribution: Array) -> Array:
    clamped = np.maximum(distribution, _FLOOR)
    return np.asarray(clamped / clamped.sum())


def note(config: RunConfig) -> str | None:
    """Return how a run differs from RL-Pruner's own settings, and how to get them; None: it does not."""
    ways = []
    if config.criterion != "taylor":
        ways.append(f"ranks channels by Taylor scores (--criterion taylor; this run: {config.criterion})")
    if config.rounds == 1:
        ways.append("prunes in steps, with fine-tuning between them (--rounds 4; this run: 1)")
    if config.fine_tuning.teacher_mix == 0:
        ways.append("fine-tunes with the base model as teacher (fine_tuning.teacher_mix above 0; this run: 0)")
    return f"RL-Pruner itself {' and '.join(ways)}; what was set is kept" if ways else None


def create(problem: Problem) -> RlPruner:
    """Return the strategy."""
    return RlPruner(problem)
