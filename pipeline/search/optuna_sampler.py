"""Optuna's samplers as strategies: the sampler suggests a level a group, masks repair it, the result goes back.

Each group is an integer parameter, the place among its legal levels: the order of the levels means something to the
samplers. A suggestion over the target, or one tried before, is repaired; Optuna then gets the plan that is really
evaluated as a trial of its own, running until its result is in, and what it suggested counts as failed, which no
sampler learns from.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.records import PruningPlan, Trial
from pipeline.search.planner import Planner, indices
from pipeline.search.repair import Levels, Repair
from pipeline.search.strategy import Problem

_SUGGESTIONS = 3
"""Of the sampler, until one leads to a new plan; then chance helps."""
_GENERATION = ":generation"
"""Ends the name of the note by which Optuna's evolutionary samplers know whose generation a trial is."""


class OptunaSearch:
    """Asks a sampler; plans are within the masks and none is repeated while there are others."""

    def __init__(self, problem: Problem, sampler: optuna.samplers.BaseSampler) -> None:
        """Lay out the parameters; Optuna's storage is this process's memory."""
        self._planner = Planner(problem)
        self._repair = Repair(self._planner, np.random.default_rng(problem.seed))
        self._space: dict[str, BaseDistribution] = {
            group.name: IntDistribution(0, len(own) - 1)
            for group, own in zip(problem.space.groups, self._repair.options, strict=True)
        }
        with _quietly():
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._numbers: dict[Levels, int] = {}
        """Plans that were asked for → the numbers of Optuna's trials."""

    def ask(self) -> PruningPlan:
        """Return what the sampler suggests, made legal and new."""
        with _quietly():
            for _ in range(_SUGGESTIONS):
                suggested, number = self._suggested()
                levels = self._repair.undo_surplus_cuts(self._repair.make_feasible(suggested))
                if levels == suggested and levels not in self._numbers:
                    break
                self._study.tell(number, state=TrialState.FAIL)
                if levels not in self._numbers:
                    number = self._in_place_of(number, levels)
                    break
            else:
                levels = self._repair.propose_new(suggested, self._numbers)
                number = self._in_place_of(number, levels)
        self._numbers[levels] = number
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Tell the sampler a reward, or that there is none."""
        levels = tuple(indices(trial.plan))
        with _quietly():
            number = self._numbers.get(levels)
            if number is None:  # a resumed run's trial may be another plan than what was asked for now
                number = self._numbers[levels] = self._added(levels, {})
            if trial.reward is None:
                self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            else:
                self._study.tell(number, trial.reward, skip_if_finished=True)

    def _suggested(self) -> tuple[Levels, int]:
        asked = self._study.ask(self._space)
        places = [asked.params[name] for name in self._space]
        return tuple(own[place] for own, place in zip(self._repair.options, places, strict=True)), asked.number

    def _in_place_of(self, number: int, levels: Levels) -> int:
        """Put a running trial of ``levels`` in the place of a suggestion; return its number."""
        notes = self._known()[number].system_attrs.items()
        return self._added(levels, {name: note for name, note in notes if name.endswith(_GENERATION)})

    def _added(self, levels: Levels, notes: dict[str, object]) -> int:
        places = [own.index(level) for own, level in zip(self._repair.options, levels, strict=True)]
        params = dict(zip(self._space, places, strict=True))
        trial = create_trial(
            state=TrialState.RUNNING, params=params, distributions=self._space, system_attrs=notes
        )  # fmt: skip
        self._study.add_trial(trial)
        return len(self._known()) - 1

    def _known(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Optuna's own log and its warnings of experimental parts to itself, for as long as it is at work.

    And to one thread: the matrices are small, and on busy cores a second one only waits.
    """
    before, threads = optuna.logging.get_verbosity(), torch.get_num_threads()
    optuna.logging.set_verbosity(logging.ERROR)
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
        torch.set_num_threads(threads)


def first_random(problem: Problem) -> int:
    """Return how many plans are random before a sampler has something to go by: a fifth of the trials, 4 to 10."""
    return min(10, max(4, problem.trials // 5))
