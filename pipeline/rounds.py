"""One round: find what can be pruned, measure single cuts, search, fine-tune the best, choose one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from pipeline.base import Base
from pipeline.bench import Bench, cost_model, single_cuts
from pipeline.candidates import Builder
from pipeline.choosing import choose, pick_finalists
from pipeline.context import BATCH, Context
from pipeline.events import Note, Stage
from pipeline.finalists import Finals
from pipeline.pruning.coupling import coupling
from pipeline.pruning.groups import search_space
from pipeline.pruning.ranking import rank
from pipeline.records import Artifact, SearchSpace
from pipeline.searching import Search, problem_of
from pipeline.spaces import remember_space
from pipeline.targets import Metric


def prune_once(
    context: Context, number: int, base: Base, network: fx.GraphModule, limits: Mapping[Metric, float]
) -> tuple[fx.GraphModule, Artifact]:
    """Prune ``network`` (the base, or the last round's winner) towards ``limits``; return the winner and its artifact.

    A round that was finished before the run was resumed is not searched again.
    """
    store = context.store
    context.listen(Stage("Find what can be pruned"))
    cuts = context.config.cuts
    space = search_space(
        network, context.example, step=context.agent.channel_step, protect=cuts.protect, minimum=cuts.minimum
    )
    remember_space(store, number, space)
    context.listen(Note(told(space)))
    builder = _builder(context, network, space)
    bench = Bench(context.agent, store, base.probe, round=number, limits=limits)
    finals = Finals(context=context, builder=builder, bench=bench, base=base, limits=limits)
    winner = next((a for a in store.artifacts() if a.id == store.get(f"winner {number}")), None)
    if winner is None:
        winner = _search_and_choose(context, base, builder, bench, limits, finals)
        store.set(f"winner {number}", winner.id)
    return finals.network(winner), winner


def told(space: SearchSpace) -> str:
    """Return in a sentence how much of a network can be cut, and what stays whole."""
    cuttable = f"{len(space.groups)} groups of channels can be cut, {sum(100 in g.kept for g in space.groups)} of them "
    share = sum(space.refused_macs.values()) / space.macs
    reasons = "; ".join(f"{layer}: {why}" for layer, why in list(space.refused.items())[:3])
    more = f"; and {len(space.refused) - 3} more" if len(space.refused) > 3 else ""
    return f"{cuttable}as a whole; {share:.1%} of the MACs stay ({reasons}{more})"


def limits_of_round(limits: Mapping[Metric, float], number: int, rounds: int) -> dict[Metric, float]:
    """Return the limits of one of several rounds: equal steps on a logarithmic scale; the last is the target.

    >>> limits_of_round({"latency": 0.25}, 1, 2), limits_of_round({"latency": 0.25}, 2, 2)
    ({'latency': 0.5}, {'latency': 0.25})
    """
    return {metric: limit ** (number / rounds) if limit < 1 else limit for metric, limit in limits.items()}


def _builder(context: Context, network: fx.GraphModule, space: SearchSpace) -> Builder:
    config, data = context.config, context.data
    images = data.train.batches(BATCH, limit=config.evaluation.ranking_images)
    return Builder(
        base=network, space=space, data=data, settings=config.evaluation, format=context.format,
        example=context.example,
        ranking=rank(
            network, space, config.criterion, coupling(network, context.example).groups, images,
            options=config.criterion_options, seed=config.seed,
        ),
    )  # fmt: skip


def _search_and_choose(
    context: Context, base: Base, builder: Builder, bench: Bench, limits: Mapping[Metric, float], finals: Finals
) -> Artifact:
    space = builder.space
    context.listen(Stage("Measure single cuts", len(single_cuts(space))))
    costs = cost_model(space, bench, builder, context.step, size=space.parameters / base.figures.parameters)
    problem = problem_of(context, space, costs, limits, base)
    search = Search(context=context, base=base, builder=builder, bench=bench, limits=limits, problem=problem)
    search.require_reachable()
    trials = search.trials()
    artifact = choose(finals, pick_finalists(trials, limits), context.config.recovery.finalists)
    if artifact is None:
        raise search.nearest_miss(trials)
    return artifact
