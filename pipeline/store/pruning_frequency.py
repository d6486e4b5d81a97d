"""Pruning frequency: how often a search pruned each layer at each level, and whether that follows what the layer is.

Counted are the plans that cut several groups: those of one group alone are how a search begins, whatever it prefers.
What these show stands beside it: what cutting the group alone saves of the latency and loses of the accuracy. Ranks are
correlated over the groups (Spearman 1904).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from pipeline.measurement.validity import why_invalid
from pipeline.predictors.cost_model import signature
from pipeline.records import LEVELS, SearchSpace, Trial
from pipeline.store.facts import BASE, SPACE
from pipeline.store.store import Store

_FEWEST = 4
"""Groups for a correlation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFrequency:
    """How often one group of layers was pruned at each level."""

    name: str
    plans: Mapping[int, int]
    """By level, in percent; every level that the group has."""
    saving: float | None
    """Latency that cutting it alone, as deep as it goes, saves of the base model's; None: not measured."""
    loss: float | None
    """Accuracy that this loses; None: not tried alone."""

    @property
    def mean_level(self) -> float:
        """The mean level, in percent.

        >>> LayerFrequency(name="conv", plans={0: 1, 50: 3}, saving=None, loss=None).mean_level
        37.5
        """
        return sum(level * count for level, count in self.plans.items()) / max(1, sum(self.plans.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation over groups of layers."""

    rho: float
    p: float
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningFrequency:
    """All groups of one network, in forward order."""

    layers: tuple[LayerFrequency, ...]
    with_saving: Correlation | None
    """Of the mean level with what the group's deepest cut saves; None: too few groups, or they do not vary."""
    with_loss: Correlation | None
    """The same with what it loses."""


def pruning_frequency(runs: Sequence[Store]) -> PruningFrequency | None:
    """Return how often searches of one network pruned its layers, in their first round; None: they have no such plans.

    Args:
        runs: of other seeds; those of another space than the first one's are left out.
    """
    space = runs[0].get(SPACE.of(1)) if runs else None
    if space is None:
        return None
    alike = [run for run in runs if _named(run.get(SPACE.of(1))) == _named(space)]
    trials = [[trial for trial in run.trials() if trial.round == 1 and not trial.plan.zeros] for run in alike]
    plans = [t.plan.levels for of in trials for t in of if sum(level > 0 for level in t.plan.levels) > 1]
    if not plans:
        return None
    single = [_single(space, of, run) for of, run in zip(trials, alike, strict=True)]
    layers = tuple(
        LayerFrequency(
            name=group.name,
            plans={level: sum(plan[i] == level for plan in plans) for level in LEVELS if level in group.levels},
            saving=_mean([of[i][0] for of in single]),
            loss=_mean([of[i][1] for of in single]),
        )
        for i, group in enumerate(space.groups)
    )
    return PruningFrequency(
        layers=layers,
        with_saving=_correlation([(layer.mean_level, layer.saving) for layer in layers]),
        with_loss=_correlation([(layer.mean_level, layer.loss) for layer in layers]),
    )


def _named(space: SearchSpace | None) -> list[tuple[str, tuple[int, ...]]]:
    return [] if space is None else [(group.name, group.levels) for group in space.groups]


def _single(space: SearchSpace, trials: Sequence[Trial], run: Store) -> list[tuple[float | None, float | None]]:
    """Return for each group what its deepest cut alone saves of the latency and loses of the accuracy."""
    base = run.required(BASE)
    accuracies = {trial.key: trial.candidate.accuracy for trial in trials if trial.candidate is not None}
    savings: dict[object, float] = {}
    found: list[tuple[object, float | None]] = []
    for i, group in enumerate(space.groups):
        key = space.key(tuple(group.levels[-1] if j == i else 0 for j in range(len(space.groups))))
        measured = run.recall(f"1:{key}")
        if measured is not None and measured.ratio is not None and not why_invalid(measured):
            savings.setdefault(signature(group), 1 - measured.ratio.value)
        found.append((signature(group), base.search_accuracy - accuracies[key] if key in accuracies else None))
    return [(savings.get(kind), loss) for kind, loss in found]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _correlation(pairs: Sequence[tuple[float, float | None]]) -> Correlation | None:
    known = [(x, y) for x, y in pairs if y is not None]
    if len(known) < _FEWEST or any(np.ptp(values) == 0 for values in zip(*known, strict=True)):
        return None
    found = spearmanr(*zip(*known, strict=True))
    return Correlation(rho=float(found.statistic), p=float(found.pvalue), groups=len(known))
