"""NetAdapt: each iteration saves a little more, by the one cut after which the network answers best.

Yang et al., NetAdapt, ECCV 2018, algorithm 1. In an iteration every group proposes its least cut that is predicted to
save the step; each proposal is evaluated, and the one with the highest accuracy is kept. As there, the step decays.
What differs:

- The short fine-tuning of each proposal is left out, as no strategy here trains during the search.
- The paper runs until it is through: iterations × groups evaluations. Here the trials are given, so that the step is
  chosen by what is left of them and of the way to the target, but no smaller than lets the remaining iterations get
  there. Where the trials do not reach for every group in each iteration, those propose that lost the least for their
  saving when they were last tried; those not tried yet come first, and all at once where that leaves a trial for each
  iteration.
- Levels are few, so a cut may save far more than its step, which as there is no merit of it; where no group alone saves
  the step, those propose that save at least half of what the deepest cut does.
  The step is one that half of the groups can save, unless the trials are too few: else a handful of large groups
  would propose alone.
- Trials that are left when the target is met go to neighbours of the best plan.

Proposals on the way are over the target by design: only those of the last iteration, and what follows, meet it.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from pipeline.records import PruningPlan, Trial
from pipeline.search.planner import REMOVE, Planner, indices
from pipeline.search.repair import Levels, Repair
from pipeline.search.strategy import Problem, StrategySettings, settings_of

_AMPLE = 2
"""Trials an iteration from which on a step is no larger than half of the groups can save."""
_LEAST = 1e-6
"""Savings below that are none."""


class Settings(StrategySettings):
    """How the way to the target is divided."""

    decay: float = Field(0.96, gt=0, lt=1)
    """Each iteration saves so many times what the last one did."""


class NetAdapt:
    """Walks from the whole network to the target, one group an iteration."""

    def __init__(self, problem: Problem) -> None:
        """Begin with nothing cut, whose accuracy is known."""
        self._decay = settings_of(problem, Settings).decay
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._repair = Repair(self._planner, self._rng)
        self._current: Levels = (0,) * self._planner.groups
        self._queue: list[Levels] = []
        """Proposals of this iteration that are not asked for yet."""
        self._proposed: dict[Levels, int] = {}
        """All of this iteration → the group that is cut."""
        self._last_loss_per_saving: dict[int, float] = {}
        """Group → accuracy lost per saving, when it was last tried."""
        self._accuracy: dict[Levels, float] = {self._current: problem.base_accuracy}
        self._failed: set[Levels] = set()
        self._best: tuple[float, Levels] | None = None
        """Reward and plan, of those that are predicted to meet the targets."""
        self._asked: set[Levels] = set()

    def ask(self) -> PruningPlan:
        """Return the next proposal, of the next iteration where this one is through."""
        while not self._queue and not self._is_feasible():
            self._accept_best_proposal()
            if self._is_feasible():
                break
            self._propose()
            if not self._proposed:  # nothing can be cut any more
                break
        levels = self._queue.pop(0) if self._queue else self._near_incumbent()
        self._asked.add(levels)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a proposal's accuracy; one that failed is not kept."""
        levels = tuple(indices(trial.plan))
        if trial.reward is None or trial.candidate is None:
            self._failed.add(levels)
            return
        self._accuracy[levels] = trial.candidate.accuracy
        if levels in self._proposed:
            self._last_loss_per_saving[self._proposed[levels]] = self._loss_per_saving(levels)
        if self._repair.excess([levels])[0] == 0:
            self._best = max((trial.reward, levels), self._best or (trial.reward, levels))

    # ------------------------------------------------------------ an iteration

    def _accept_best_proposal(self) -> None:
        """Go on from the best proposal; one still being evaluated counts where none is."""
        evaluated = [levels for levels in self._proposed if levels in self._accuracy]
        pending = [levels for levels in self._proposed if levels not in self._failed]
        if evaluated:
            self._current = max(evaluated, key=self._accuracy.__getitem__)
        elif pending:
            self._current = pending[0]
        self._proposed = {}

    def _propose(self) -> None:
        """Fill the queue with the least cuts that save the step, as many as the trials allow."""
        ways = [(group, way) for group in range(len(self._current)) if (way := self._cuts(group))]
        if not ways:
            return
        step, iterations = self._step_size(ways)
        proposals = {self._least(way, step): group for group, way in ways}
        enough = {p: g for p, g in proposals.items() if self._saved(p) >= min(step, self._excess(self._current)) - 1e-9}
        if not enough:
            most = max(self._saved(p) for p in proposals)
            enough = {p: g for p, g in proposals.items() if self._saved(p) >= most / 2}
        untried = sum(group not in self._last_loss_per_saving for group in enough.values())
        many = max(1, self._left() // iterations, untried if untried + iterations <= self._left() else 0)
        order = sorted(enough, key=lambda p: self._last_loss_per_saving.get(enough[p], -np.inf))[:many]
        self._proposed = {levels: enough[levels] for levels in order}
        self._queue = [levels for levels in order if levels not in self._asked]

    def _step_size(self, ways: list[tuple[int, list[Levels]]]) -> tuple[float, int]:
        """Return what an iteration is to save, and how many lead to the target: one trial a group in each, or fewer."""
        excess = self._excess(self._current)
        deepest = sorted((max(map(self._saved, way)) for _, way in ways), reverse=True)
        fewest = min(len(ways), 1 + int(np.searchsorted(np.cumsum(deepest), excess - _LEAST)))
        iterations = max(fewest, min(self._left() // len(ways), 3 * len(ways)))
        step = excess * (1 - self._decay) / (1 - self._decay**iterations)
        if self._left() >= _AMPLE * iterations:
            step = min(step, float(np.median(deepest)))
            iterations = max(iterations, math.ceil(excess / step))
        return step, iterations

    def _cuts(self, group: int) -> list[Levels]:
        """Return the plans with one group cut deeper that save something, least first; a block goes by its first."""
        own, level = self._repair.options[group], self._current[group]
        levels = [o for o in own if o > level and (o < REMOVE or self._planner.owner[group] == group)]
        plans = [self._repair.with_level(self._current, group, o) for o in levels]
        usable = [p for p in plans if p not in self._failed and self._saved(p) > _LEAST]
        return sorted(usable, key=self._saved)

    def _least(self, way: list[Levels], step: float) -> Levels:
        return next((plan for plan in way if self._saved(plan) >= step), way[-1])

    def _loss_per_saving(self, levels: Levels) -> float:
        """Return the accuracy lost against where the iteration began, over what is saved."""
        lost = self._accuracy.get(self._current, 0.0) - self._accuracy[levels]
        return lost / max(self._saved(levels), _LEAST)

    def _saved(self, levels: Levels) -> float:
        return self._excess(self._current) - self._excess(levels)

    def _excess(self, levels: Levels) -> float:
        return float(self._repair.excess([levels])[0])

    def _left(self) -> int:
        return max(1, self._planner.problem.trials - len(self._asked))

    # ------------------------------------------------------------ at the target

    def _is_feasible(self) -> bool:
        return self._excess(self._current) == 0

    def _near_incumbent(self) -> Levels:
        return self._repair.propose_new(self._best[1] if self._best else self._current, self._asked)


def create(problem: Problem) -> NetAdapt:
    """Return the strategy."""
    return NetAdapt(problem)
