"""Search problem: space, cost model, targets and reward, as handed to a strategy."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config import RunConfig
from pipeline.evaluation.candidate_builder import Builder
from pipeline.predictors.cost_model import CostModel
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.filter_norms import filter_norms
from pipeline.pruning.surgery.weight_sparsity import spreads
from pipeline.records import SearchSpace
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.search.reward import Weights
from pipeline.search.strategy import Problem
from pipeline.search.strategy_plugin import strategy_settings
from pipeline.targets import Metric

PLANNING_MARGIN = 0.01
"""Plans are made for targets this much tighter, so that noise does not push a good one over the limit."""


def build_problem(
    context: Context, builder: Builder, costs: CostModel, limits: Mapping[Metric, float], base: Base
) -> Problem:
    """Return everything that a strategy may know of ``builder``'s network and space.

    Args:
        limits: each target as a share of the base model's figure.

    Raises:
        ModelError: weights are not finite.
    """
    config, statistics = context.config, context.data.input_statistics
    return Problem(
        space=builder.space,
        costs=costs,
        limits={metric: _planned(metric, limit) for metric, limit in limits.items()},
        weights=_weights(config, builder.space),
        base_accuracy=base.figures.search_accuracy,
        images=min(len(context.data.search), config.evaluation.search_images),
        input_mean=statistics.mean,
        input_variance=statistics.variance,
        temperature_c=base.figures.measurement.temperature_c,
        criterion=config.criterion,
        trials=config.trials,
        seed=config.seed,
        mode=config.mode,
        settings=strategy_settings(config),
        margin=PLANNING_MARGIN,
        norms=filter_norms(builder.base, builder.space, dependency_graph(builder.base, context.example).groups),
        spreads=spreads(builder.base, config.pruning.protect) if "density" in limits else (),
    )


def _planned(metric: Metric, limit: float) -> float:
    """Return the limit that plans are made for; a density is counted, without noise."""
    return limit if metric == "density" else limit * (1 - PLANNING_MARGIN)


def _weights(config: RunConfig, space: SearchSpace) -> Weights:
    section = config.reward

    def each(name: str) -> list[float]:
        own = [getattr(section.layers.get(group.name), name, None) for group in space.groups]
        return [getattr(section, name) if weight is None else weight for weight in own]

    return Weights(
        alpha=each("alpha"), beta=each("beta"), gamma=each("gamma"), lambda_=each("lambda_"),
        latency=section.latency, violation=section.violation,
    )  # fmt: skip
