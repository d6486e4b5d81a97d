"""Tuning objective: the figure by which runs are compared; never the reward, never the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import ConfigError
from pipeline.tuning.settings import Settings

Objective = Literal["accuracy", "latency", "energy", "size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of many; its figures are those of the artifact that it chose."""

    run: str
    settings: Settings
    accuracy: float | None = None
    """On the validation split, which no run of a tuning trains on. None: the run chose nothing."""
    latency: float | None = None
    """Over the base model's."""
    energy: float | None = None
    """The same; None where it is not measured."""
    size: float | None = None
    """The same."""
    failure: str | None = None
    """Why it chose nothing: no candidate meets the targets, or none came through."""
    seconds: float = 0.0
    """Of work."""

    @property
    def feasible(self) -> bool:
        """Whether it chose a network, which then meets every target."""
        return self.accuracy is not None


def value_of(outcome: Outcome, objective: Objective) -> float:
    """Return how good a run is: the higher the better; -inf where it meets no target.

    Raises:
        ConfigError: the objective was not measured.
    """
    if not outcome.feasible:
        return -math.inf
    figure: float | None = getattr(outcome, objective)
    if figure is None:
        raise ConfigError(
            f"--objective {objective}: run {outcome.run} has no such figure, because the device has no power sensor; "
            f"choose another of {', '.join(get_args(Objective))}"
        )
    return figure if objective == "accuracy" else -figure


def ranked(outcomes: list[Outcome], objective: Objective) -> list[Outcome]:
    """Return the runs, the best first; equals in the order of their runs."""
    return sorted(outcomes, key=lambda outcome: -value_of(outcome, objective))
