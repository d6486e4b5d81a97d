"""One round: find what can be pruned, measure single cuts, search, fine-tune the best, choose one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import fx

from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.candidate_task import RoundInputs
from pipeline.evaluation.cut_profiling import cost_tables, measure_cuts, single_cuts
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.predictors.cost_model import CostModel
from pipeline.predictors.speedup_diagnosis import why_not_faster
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.weight_sparsity import spreads
from pipeline.records import Artifact, SearchSpace
from pipeline.run.base_model import Base
from pipeline.run.channel_step import channel_step, without_plateaus
from pipeline.run.context import Context
from pipeline.run.finalists import Finalists
from pipeline.run.problem import build_problem, remember_problem, size_of_uncut
from pipeline.run.search_stage import Search
from pipeline.run.selection import choose, pick_finalists
from pipeline.run.target_check import TargetCheck
from pipeline.search.strategy_plugin import strategy_of
from pipeline.store.conditions import winner_of
from pipeline.store.decisions import uncut
from pipeline.store.spaces import remember_space
from pipeline.targets import Metric
from pipeline.workers.executor import Shared

Winner = tuple[fx.GraphModule, Artifact]
"""A network that was chosen, and its artifact."""


def prune_once(
    context: Context, number: int, base: Base, network: fx.GraphModule, limits: Mapping[Metric, float]
) -> list[Winner]:
    """Prune ``network`` (the base, or the last round's winner) towards ``limits``; return the winner.

    Of data under several conditions there is a winner under each, in their order, of one search: its trials are judged
    under all of them. A round that was finished before the run was resumed is not searched again.
    """
    store = context.store
    context.listen(Stage("Find what can be pruned"))
    pruning = context.config.pruning
    step = 1 if "density" in limits else channel_step(context, network, base.skeleton)
    space = search_space(
        network, context.example, step=step, protect=pruning.protect, only=pruning.only, minimum=pruning.min_channels
    )
    described = describe_weights(network, pruning.protect, pruning.only) if "density" in limits else None
    context.listen(Note(described or describe_space(space)))
    builder = builder_of(context, network, space)
    bench = Bench(context.boards, store, base.skeleton, round=number, limits=limits)
    finalists = [
        Finalists(
            context=one, builder=replace(builder, data=one.data, conditions={}), bench=bench,
            base=base.under(store, one.condition), limits=limits,
        )
        for one in context.of_each_condition()
    ]  # fmt: skip
    if any(_known_winner(one, number) is None for one in finalists):
        remember_space(store, number, space)
        _search_and_choose(context, base, builder, bench, limits, finalists)
    winners = [(one, _known_winner(one, number)) for one in finalists]
    return [(one.network(winner), winner) for one, winner in winners if winner is not None]


def _known_winner(finalists: Finalists, number: int) -> Artifact | None:
    store = finalists.context.store
    chosen = store.get(winner_of(number, finalists.context.condition))
    return next((artifact for artifact in store.artifacts() if artifact.id == chosen), None)


def describe_space(space: SearchSpace) -> str:
    """Return in a sentence how much of a network can be cut, and what stays whole."""
    cuttable = f"{len(space.groups)} groups of channels can be cut, {sum(100 in g.kept for g in space.groups)} of them "
    share = sum(space.refused_macs.values()) / space.macs
    reasons = "; ".join(f"{layer}: {why}" for layer, why in list(space.refused.items())[:3])
    more = f"; and {len(space.refused) - 3} more" if len(space.refused) > 3 else ""
    return f"{cuttable}as a whole; {share:.1%} of the MACs stay ({reasons}{more})"


def describe_weights(network: fx.GraphModule, protect: Sequence[str], only: Sequence[str] = ()) -> str:
    """Return in a sentence how many single weights can become zero."""
    found = spreads(network, protect, only)
    free = [one for one in found if one.below[-1] > one.below[0]]
    count, total = sum(one.weights for one in free), sum(one.weights for one in found)
    return f"{count:,} weights of {len(free)} layers can become zero, {count / total:.1%} of all; every channel stays"


def limits_of_round(limits: Mapping[Metric, float], number: int, rounds: int) -> dict[Metric, float]:
    """Return the limits of one of several rounds: equal steps on a logarithmic scale; the last is the target.

    >>> limits_of_round({"latency": 0.25}, 1, 2), limits_of_round({"latency": 0.25}, 2, 2)
    ({'latency': 0.5}, {'latency': 0.25})
    """
    return {metric: limit ** (number / rounds) if limit < 1 else limit for metric, limit in limits.items()}


def builder_of(context: Context, network: fx.GraphModule, space: SearchSpace) -> Builder:
    """Return what turns plans of ``space`` into candidates, channels ranked by the run's criterion."""
    config, data = context.config, context.data
    images = data.train.batches(BATCH, limit=config.evaluation.ranking_images)
    return Builder(
        base=network, space=space, data=data, settings=config.evaluation, fine_tuning=config.fine_tuning,
        format=context.format, example=context.example, conditions=context.conditions,
        ranking=rank(
            network, space, config.criterion, dependency_graph(network, context.example).groups, images,
            options=config.criterion_options, seed=config.seed, task=data.task,
        ),
    )  # fmt: skip


def space_and_costs(
    context: Context, base: Base, builder: Builder, bench: Bench, limits: Mapping[Metric, float]
) -> tuple[SearchSpace, CostModel]:
    """Return the space without the levels that save nothing on this board, and what its plans cost there.

    Where the size counts too, such levels stay: they make the network smaller, if not faster. With a target of density
    no channel is cut, and nothing is measured.
    """
    whole = builder.space
    if "density" in limits:
        return whole, CostModel({})
    context.listen(Stage("Measure single cuts", len(single_cuts(whole))))
    is_base = uncut(context.store) is None
    profile = measure_cuts(whole, bench, builder, context.report_progress, is_base=is_base)
    space = whole if "size" in limits else without_plateaus(whole, profile)
    costs = cost_tables(space, profile, size=size_of_uncut(context.store, base.figures, space))
    for sentence in why_not_faster(space, costs.tables["latency"], base.figure("latency"), unshaped=whole):
        context.listen(Note(sentence))
    return space, costs


def _search_and_choose(
    context: Context, base: Base, builder: Builder, bench: Bench, limits: Mapping[Metric, float],
    finalists: Sequence[Finalists],
) -> None:  # fmt: skip
    """Search, and store a winner for each of the finalists' conditions that has none yet."""
    space, costs = space_and_costs(context, base, builder, bench, limits)
    remember_space(context.store, bench.round, space)
    builder = replace(builder, space=space)
    inputs = Shared(RoundInputs(builder, base.network))
    _show_strategy_note(context)
    problem = build_problem(context, builder, costs, limits, base, bench.round)
    remember_problem(context.store, bench.round, problem)
    search = Search(
        context=context, base=base, builder=builder, bench=bench, limits=limits, problem=problem, inputs=inputs
    )  # fmt: skip
    config = context.config
    check = TargetCheck(targets=config.targets, rounds=config.rounds, base=base, limits=limits)
    check.require_reachable(problem, builder, bench)
    trials = search.trials()
    for one in finalists:
        if _known_winner(one, bench.round) is not None:
            continue
        condition = one.context.condition
        if condition:
            context.listen(
                Note(f"for condition {condition}: finalists by their reward under it, trained on its images")
            )
        judged = [trial.under(condition) for trial in trials] if condition else trials
        own = replace(one, builder=replace(one.builder, space=space))
        own = replace(own, inputs=Shared(RoundInputs(own.builder, base.network)) if condition else inputs)
        artifact = choose(own, pick_finalists(judged, limits))
        if artifact is None:
            raise check.nearest_miss(judged)
        context.store.set(winner_of(bench.round, condition), artifact.id)


def _show_strategy_note(context: Context) -> None:
    """Say what the strategy says of itself by ``note(config)``, which is optional in its file and may return None."""
    strategy = strategy_of(context.config)
    if hasattr(strategy, "note") and (sentence := strategy.note(context.config)):
        context.listen(Note(sentence))
