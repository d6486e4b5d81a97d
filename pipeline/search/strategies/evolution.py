"""A (μ + λ) evolution, one child at a time: the best plans so far stay, and their mutants are tried.

Each child comes of the winner of a small tournament. Aging evolution (Real et al., Regularized Evolution for Image
Classifier Architecture Search, 2019) forgets the best; within tens of evaluations it found worse plans on our toys.
Children are repaired: what misses the target is cut deeper in groups drawn at random, what cuts more than the target
asks is cut less, so that each evaluation is spent on a plan at the target.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from pipeline.records import PruningPlan, Trial
from pipeline.search.planner import Planner, indices
from pipeline.search.repair import Levels, Repair
from pipeline.search.strategy import Problem, StrategySettings, settings_of

_SMALLEST, _LARGEST = 4, 20
"""Population: no fewer and no more than that."""
_ROUNDS = 10
"""Children thrown away because they were tried before, until chance helps."""


class Settings(StrategySettings):
    """How parents are chosen and children made."""

    population: float = Field(0.2, gt=0, le=1)
    """Plans that may be parents: share of the trials, but 4 at least and 20 at most."""
    tournament: int = Field(3, ge=1)
    """Plans drawn of these, the best of which is the parent."""
    crossover: float = Field(0.3, ge=0, le=1)
    """Share of the children of two parents; each group's level is then either's."""


class Evolution:
    """Begins with random plans; then asks for children of the best."""

    def __init__(self, problem: Problem) -> None:
        """Size the population for the budget."""
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._repair = Repair(self._planner, self._rng)
        self._settings = settings_of(problem, Settings)
        self._size = int(np.clip(self._settings.population * problem.trials, _SMALLEST, _LARGEST))
        self._population: list[tuple[float, Levels]] = []
        """The best, best first."""
        self._asked: set[Levels] = set()

    def ask(self) -> PruningPlan:
        """Return a plan not asked before while there is one."""
        first = len(self._asked) < self._size or not self._population
        for _ in range(_ROUNDS):
            levels = self._repair.undo_surplus_cuts(
                self._repair.make_feasible(self._drawn() if first else self._child())
            )
            if levels not in self._asked:
                break
        else:
            levels = self._repair.propose_new(levels, self._asked)
        self._asked.add(levels)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take a trial among the parents if it is good enough; one without a reward has no children."""
        if trial.reward is None:
            return
        self._population.append((trial.reward, tuple(indices(trial.plan))))
        self._population = sorted(self._population, reverse=True)[: self._size]

    def _drawn(self) -> Levels:
        return tuple(int(self._rng.choice(own)) for own in self._repair.options)

    def _child(self) -> Levels:
        child = self._parent()
        if self._rng.random() < self._settings.crossover:
            other, own = self._parent(), self._rng.random(len(child)) < 0.5
            child = tuple(int(level) for level in np.where(own, child, other))
        changes = max(1, self._rng.binomial(len(child), 1 / len(child)))
        for group in self._rng.choice(len(child), changes, replace=False).tolist():
            child = self._repair.with_level(child, group, self._other(group, child[group]))
        return child

    def _parent(self) -> Levels:
        many = min(len(self._population), self._settings.tournament)
        rivals = self._rng.choice(len(self._population), many, replace=False)
        winner: Levels = max(self._population[i] for i in rivals.tolist())[1]
        return winner

    def _other(self, group: int, level: int) -> int:
        own = self._repair.options[group]
        return int(self._rng.choice([o for o in own if o != level] or own))


def create(problem: Problem) -> Evolution:
    """Return the strategy."""
    return Evolution(problem)
