"""Search problem: space, cost model, targets and reward, as handed to a strategy; stored, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import TypedDict

from pipeline.config import RunConfig
from pipeline.data import DataSet
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.cut_profiling import cost_tables, recalled_cuts
from pipeline.measurement.feasibility import deviations
from pipeline.measurement.relative_costs import trial_costs
from pipeline.predictors.cost_model import CostModel
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.filter_norms import filter_norms
from pipeline.pruning.surgery.weight_sparsity import spreads
from pipeline.records import Figures, SearchSpace, Trial
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.search.planner import indices
from pipeline.search.reward import Weights
from pipeline.search.strategy import InputCondition, Problem
from pipeline.search.strategy_plugin import strategy_settings
from pipeline.store import Store
from pipeline.store.decisions import uncut, uncut_size
from pipeline.store.facts import BASE, CARRIED, PLANNED_FOR, POLICY, InputFigures, PlannedFor, PlannedUnder
from pipeline.store.settings import config_of
from pipeline.store.spaces import space_of_round
from pipeline.targets import Metric

PLANNING_MARGIN = 0.01
"""Plans are made for targets this much tighter, so that noise does not push a good one over the limit."""


def build_problem(
    context: Context, builder: Builder, costs: CostModel, limits: Mapping[Metric, float], base: Base, number: int = 1
) -> Problem:
    """Return everything that a strategy may know of ``builder``'s network and space.

    Args:
        limits: each target as a share of the base model's figure.
        number: of the round.

    Raises:
        ModelError: weights are not finite.
    """
    pruning = context.config.pruning
    planned = PlannedFor(
        limits={metric: _planned(metric, limit) for metric, limit in limits.items()},
        margin=PLANNING_MARGIN,
        images=min(len(context.data.search), context.config.evaluation.search_images),
        **_inputs(context.data, by_channel=bool(context.conditions)),
        conditions=[
            PlannedUnder(
                name=name, base_accuracy=base.under(context.store, name).figures.search_accuracy,
                **_inputs(data, by_channel=True),
            )
            for name, data in context.conditions.items()
        ],
    )  # fmt: skip
    problem = _problem(context.config, builder.space, costs, base.figures, planned)
    return replace(
        problem,
        norms=filter_norms(builder.base, builder.space, dependency_graph(builder.base, context.example).groups),
        spreads=spreads(builder.base, pruning.protect, pruning.only) if "density" in limits else (),
        policy=_begun_with(context.store),
        carried=_carried(context.store, number),
    )


def _begun_with(store: Store) -> bytes | None:
    """Return the policy of another run that this one begins with."""
    name = store.get(POLICY)
    return None if name is None else store.blob(name).read_bytes()


def _carried(store: Store, number: int) -> dict[str, float]:
    """Return what the strategy of the round before handed on."""
    return store.get(CARRIED.of(number - 1)) or {}


def remember_problem(store: Store, number: int, problem: Problem) -> None:
    """Store what a round's strategy is told that stands nowhere else."""
    planned = PlannedFor(
        limits=dict(problem.limits), margin=problem.margin, images=problem.images, input_mean=problem.input_mean,
        input_variance=problem.input_variance,
        conditions=[
            PlannedUnder(
                name=one.name, base_accuracy=one.base_accuracy, input_mean=one.input_mean,
                input_variance=one.input_variance,
            )
            for one in problem.conditions
        ],
    )  # fmt: skip
    store.set(PLANNED_FOR.of(number), planned)


def stored_problem(store: Store, number: int) -> Problem:
    """Return what a round's strategy was told before the first trial, but for the network's weights.

    Raises:
        StoreError: the round did not come so far.
        UserError: another version began the run.
    """
    space, base = space_of_round(store, number), store.required(BASE)
    profile = recalled_cuts(space, store, number, is_base=uncut(store) is None)
    costs = cost_tables(space, profile, size=size_of_uncut(store, base, space))
    problem = _problem(config_of(store), space, costs, base, store.required(PLANNED_FOR.of(number)))
    return replace(problem, carried=_carried(store, number))


def size_of_uncut(store: Store, base: Figures, space: SearchSpace) -> float:
    """Return the size of the network that is cut from over the base model's, by its parameters and what was decided."""
    return uncut_size(store, base) * space.parameters / base.parameters


def learn_costs(costs: CostModel, trial: Trial, base_bytes: int) -> None:
    """Correct what plans cost by a trial, whose figures count by how sure they are; one that failed says nothing.

    Args:
        base_bytes: size of the base model.
    """
    found = None if trial.failure is not None else trial_costs(trial, base_bytes)
    if found is not None and trial.measurement is not None:
        costs.learn(indices(trial.plan), found.known, deviations(trial.measurement))


def _problem(config: RunConfig, space: SearchSpace, costs: CostModel, base: Figures, planned: PlannedFor) -> Problem:
    return Problem(
        space=space,
        costs=costs,
        limits=planned["limits"],
        weights=_weights(config, space),
        base_accuracy=base.search_accuracy,
        images=planned["images"],
        input_mean=_each(planned["input_mean"]),
        input_variance=_each(planned["input_variance"]),
        temperature_c=base.measurement.temperature_c,
        criterion=config.criterion,
        trials=config.trials,
        seed=config.seed,
        mode=config.mode,
        settings=strategy_settings(config),
        margin=planned["margin"],
        conditions=tuple(
            InputCondition(
                name=one["name"], base_accuracy=one["base_accuracy"], input_mean=_each(one["input_mean"]),
                input_variance=_each(one["input_variance"]),
            )
            for one in planned.get("conditions", ())
        ),
    )  # fmt: skip


class _Inputs(TypedDict):
    input_mean: tuple[float, ...]
    input_variance: tuple[float, ...]


def _inputs(data: DataSet, *, by_channel: bool) -> _Inputs:
    """Return a data set's input statistics: of each channel, or as one channel."""
    if by_channel:
        return _Inputs(input_mean=data.channel_statistics.mean, input_variance=data.channel_statistics.variance)
    mean, variance = data.input_statistics
    return _Inputs(input_mean=(mean,), input_variance=(variance,))


def _each(stored: InputFigures) -> tuple[float, ...]:
    """Return a stored figure by channel; older runs stored one over all values."""
    return stored if isinstance(stored, tuple) else (stored,)


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
