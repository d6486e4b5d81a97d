"""Which channels go first: a criterion's scores of the base network, as an order for each group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from pipeline import plugins
from pipeline.config import CriterionConfig
from pipeline.errors import ModelError
from pipeline.objective.task import Task
from pipeline.pruning.dependency.channel_sets import Couplings
from pipeline.pruning.importance.evidence import Batches, Evidence
from pipeline.pruning.surgery.prune import Ranking
from pipeline.records import SearchSpace


def rank(
    model: fx.GraphModule,
    space: SearchSpace,
    criterion: str,
    couplings: Couplings,
    batches: Batches,
    *,
    options: CriterionConfig = CriterionConfig(),  # noqa: B008 — frozen
    seed: int = 0,
    task: Task | None = None,
) -> Ranking:
    """Return the units of each of the space's groups, least important first; ties keep their index order.

    Args:
        criterion: a file's name in ``pruning/criteria``.
        couplings: the groups of ``model``, at least those of ``space``.
        batches: images and targets for criteria that need them; read once, and only then.
        options: how the scores of a group's layers become one.
        seed: for criteria that draw.
        task: whose loss counts for criteria that go by it; None: classification.

    Raises:
        ConfigError: there is no such criterion; names the nearest one.
        DataError: the criterion needs images and there are none, or a label is none of the network's classes.
        ModelError: weights, gradients or feature maps are not finite, or a group has nothing to score.
    """
    plugin = plugins.load("pipeline.pruning.criteria", criterion)
    groups = [couplings[group.name] for group in space.groups]
    order = {group.name: torch.zeros(1, dtype=torch.int64) for group in groups if group.units == 1}
    groups = [group for group in groups if group.units > 1]
    evidence = Evidence(model, groups, batches, seed=seed, task=task)
    for group in groups:
        scores = plugin.scores(group, evidence)
        if not scores:
            raise ModelError(f"{group.name}: {criterion} finds no weights to score in this group; try l1 or random")
        order[group.name] = ordered(combined(scores, options), digits=plugin.DIGITS)
    return order


def combined(scores: Sequence[Tensor], options: CriterionConfig) -> Tensor:
    """Return one score a unit from those of a group's layers, each (units,), after ``options``.

    >>> combined([torch.tensor([1.0, 3.0]), torch.tensor([30.0, 10.0])], CriterionConfig())
    tensor([15.5000,  6.5000])
    >>> combined([torch.tensor([1.0, 3.0]), torch.tensor([30.0, 10.0])], CriterionConfig(normalise="mean"))
    tensor([1., 1.])
    """
    stacked = torch.stack([_normalised(each, options.normalise) for each in scores])
    if options.reduction == "max":
        return stacked.amax(0)
    return stacked.mean(0) if options.reduction == "mean" else stacked.sum(0)


def ordered(scores: Tensor, *, digits: int) -> Tensor:
    """Return the units from the lowest score to the highest, ties by index.

    What differs after the given significant digits is a tie: another BLAS or number of threads adds in another order.

    >>> ordered(torch.tensor([2.0, 1.00000001, 1.0, 0.5], dtype=torch.float64), digits=7)
    tensor([3, 1, 2, 0])
    """
    rounded = torch.tensor([float(f"{score:.{digits - 1}e}") for score in scores.tolist()], dtype=torch.float64)
    return torch.argsort(rounded, stable=True)


def _normalised(scores: Tensor, by: str) -> Tensor:
    if by == "none":
        return scores
    whole = {"mean": scores.mean(), "max": scores.max(), "sum": scores.sum()}[by]
    return scores / whole if whole != 0 else scores  # a layer of zeros prefers nobody
