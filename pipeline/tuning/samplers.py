"""Samplers of settings: a grid, or Optuna."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.errors import ConfigError
from pipeline.tuning.ranges import Choice, Range, Searched
from pipeline.tuning.settings import Number, Settings

if TYPE_CHECKING:
    import optuna

Name = Literal["grid", "optuna"]
USUAL_BUDGET = 20
"""Optuna's runs where no budget is given."""


class Method(Protocol):
    """Suggests settings, each time after it was given the results of the last ones."""

    def ask(self) -> Settings | None:
        """Return the next settings; None: there are no more."""
        ...

    def tell(self, value: float) -> None:
        """Take in how good the settings were that it returned last: the higher the better, -inf is a failure."""
        ...


class Grid:
    """Every combination once; the last setting changes fastest."""

    def __init__(self, searched: Sequence[Searched]) -> None:
        paths = [one.path for one in searched]
        self._left = (dict(zip(paths, values, strict=True)) for values in combinations(searched))

    def ask(self) -> Settings | None:
        """Return the next combination."""
        return next(self._left, None)

    def tell(self, value: float) -> None:
        """A grid does not learn."""


class Tpe:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011); same seed and figures, same suggestions."""

    def __init__(self, searched: Sequence[Searched], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._searched = searched
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._asked: optuna.Trial | None = None

    def ask(self) -> Settings | None:
        """Return the next suggestion; it may be one from before."""
        self._asked = self._study.ask()
        return {one.path: _suggested(self._asked, one) for one in self._searched}

    def tell(self, value: float) -> None:
        """Learn from a run."""
        assert self._asked is not None
        self._study.tell(self._asked, value)


def method_of(name: Name, searched: Sequence[Searched], budget: int | None, seed: int) -> tuple[Method, int]:
    """Return who suggests, and how many runs there will be at most.

    Raises:
        ConfigError: the grid has more points than ``budget``.
    """
    every = math.prod(len(one.points()) for one in searched)
    if name == "optuna":
        limited = all(isinstance(one, Choice) for one in searched)
        wanted = budget or USUAL_BUDGET
        return Tpe(searched, seed), min(wanted, every) if limited else wanted
    if budget is not None and every > budget:
        sizes = " × ".join(str(len(one.points())) for one in searched)
        raise ConfigError(
            f"the grid has {sizes} = {every} points, and --runs-budget allows {budget}; give fewer values, allow "
            "more runs, or let --method optuna choose among them"
        )
    return Grid(searched), every


def combinations(searched: Sequence[Searched]) -> itertools.product[tuple[Number, ...]]:
    """Return every combination of the points of all settings."""
    return itertools.product(*(one.points() for one in searched))


def _suggested(asked: optuna.Trial, one: Searched) -> Number:
    match one:
        case Choice(path, values):
            chosen: Number = asked.suggest_categorical(path, values)
            return chosen
        case Range(path, int(low), int(high), log):
            return asked.suggest_int(path, low, high, log=log)
        case Range(path, low, high, log):
            return asked.suggest_float(path, low, high, log=log)
