"""Does fitting layers to a cut tell better which network will be good after fine-tuning? And what is it worth itself?

    python benchmarks/reconstruction.py --data cifar10:DIR --model resnet20 --weights FILE --target 0.5

Two searches see the same network cut in the same ways, with the cost model's latencies taken for true: one judges
candidates with batch norm re-estimated, the other with their layers fitted to the cut as well. The best plans of each
are then read both ways on the search split and on the test split, and fine-tuned from both (2 passes over 10,000 images
without a teacher), fitted anew on more images first, as a run's finalists are. The first table says how good the
networks are that each search finds, the second how well accuracy on the search split before fine-tuning orders them as
the test split does after it. Standard errors are over the plans of one search alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from _common.results import Results, Row, by_images, mean, table
from _common.testbed import LIKE_PEERS, Testbed, add_arguments, config_of, opened
from scipy.stats import spearmanr

from pipeline.records import PruningPlan, Trial
from pipeline.store import Store

WAYS = ("batch norm", "layers fitted")
"""How a network is fitted to its cut."""


def main() -> None:
    args = _arguments()
    names = ("data", "model", "weights", "criterion", "reconstruction_samples", "target", "trials", "plans", "strategy")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    with (
        opened(config_of(args), args.cache, "predicted", args.inventory) as bed,
        tempfile.TemporaryDirectory() as folder,
        Store.create(Path(folder), label="cache") as store,
    ):
        beds = dict(zip(WAYS, (_with_batch_norm_alone(bed, store), bed), strict=True))
        plans = _found(results, beds, args)
        for plan in {plan: None for way in WAYS for plan in plans[way]}:
            if not results.find(what="net", levels=list(plan.levels)):
                _judge(results, beds, plan)
        _print(results, plans, args, len(bed.context.data.test))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--target", type=float, default=0.5, help="share of the base's latency")
    parser.add_argument("--strategy", default="dqn", help="of both searches")
    parser.add_argument("--trials", type=int, default=60, help="of each search")
    parser.add_argument("--plans", type=int, default=10, help="of each search, the best that meet the target")
    parser.add_argument("--out", type=Path, default=Path("reconstruction.jsonl"))
    return parser.parse_args()


def _with_batch_norm_alone(bed: Testbed, store: Store) -> Testbed:
    """Return the same network and the same cuts, judged without fitting layers; its figures go into ``store``."""
    settings = bed.builder.settings.model_copy(update={"reconstruction_samples": 0})
    return replace(
        bed, builder=replace(bed.builder, settings=settings), context=replace(bed.context, store=store), shares={}
    )


def _found(results: Results, beds: dict[str, Testbed], args: argparse.Namespace) -> dict[str, list[PruningPlan]]:
    """Return the best plans of each search."""
    plans = {}
    for way, bed in beds.items():
        row = results.find(what="search", way=way)
        if row is None:
            trials = bed.search(args.strategy, trials=args.trials, seed=0, limits={"latency": args.target}, lookahead=0)
            best = sorted((t for t in trials if t.feasible), key=_accuracy, reverse=True)[: args.plans]
            row = results.append(what="search", way=way, plans=[trial.plan.levels for trial in best])
            print(f"  found with {way}: {len(best)} plans, the best of {_accuracy(best[0]):.1%}", flush=True)
        plans[way] = [PruningPlan(levels=tuple(levels), criterion=args.criterion) for levels in row["plans"]]
    return plans


def _accuracy(trial: Trial) -> float:
    assert trial.candidate is not None
    return trial.candidate.accuracy


def _judge(results: Results, beds: dict[str, Testbed], plan: PruningPlan) -> None:
    figures = {
        way: {
            "search": bed.build(plan).candidate.accuracy,
            "before": bed.test_accuracy(plan, None),
            "after": bed.test_accuracy(plan, LIKE_PEERS),
        }
        for way, bed in beds.items()
    }
    results.append(what="net", levels=plan.levels, **figures)
    shown = "; ".join(f"{way} {f['before']:.1%} → {f['after']:.1%}" for way, f in figures.items())
    print(f"  {beds[WAYS[0]].builder.space.key(plan.levels)}, test: {shown}", flush=True)


def _print(results: Results, plans: dict[str, list[PruningPlan]], args: argparse.Namespace, images: int) -> None:
    nets = {way: [_net(results, plan) for plan in plans[way]] for way in WAYS}
    print(f"\n{args.model} on {args.data.partition(':')[0]}, predicted latency at most {args.target:g}x, test, %")
    header = ["found with", "plans", *(f"{way}, {when}" for way in WAYS for when in ("before", "after"))]
    rows = [
        [way, str(len(nets[way]))]
        + [mean([net[read][when] for net in nets[way]], scale=100) for read in WAYS for when in ("before", "after")]
        for way in WAYS
    ]
    print(table(header, rows))
    best = max(net[read]["after"] for way in WAYS for net in nets[way] for read in WAYS)
    print(
        f"±: standard error over the plans; all share, and no ± shows, {by_images(best, images)}, and the search's seed"
    )
    every = list({tuple(net["levels"]): net for way in WAYS for net in nets[way]}.values())
    print(f"\nrank correlation among {len(every)} networks: search split before, test split after fine-tuning")
    print(table(["", *(f"after, from {way}" for way in WAYS)], [[way, *_correlations(every, way)] for way in WAYS]))


def _correlations(nets: Sequence[Row], way: str) -> list[str]:
    before = [net[way]["search"] for net in nets]
    return [f"{spearmanr(before, [net[to]['after'] for net in nets]).statistic:.2f}" for to in WAYS]


def _net(results: Results, plan: PruningPlan) -> Row:
    row = results.find(what="net", levels=list(plan.levels))
    assert row is not None
    return row


if __name__ == "__main__":
    main()
