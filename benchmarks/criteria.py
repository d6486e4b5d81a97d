"""Which criterion picks the channels best? Every one of them at the same widths, before and after the same training.

    python benchmarks/criteria.py --data cifar10:DIR --weights FILE --model resnet56 [--images 5000 --epochs 1]

All groups keep the same share of their channels, so that every criterion gives a network of the same shape: the share,
found by bisection, at which the whole network holds the given part of its MACs (half). No block is removed. A seed
draws the 512 training images that a criterion may read, and which images are trained on in which order. Batch norm is
re-estimated on the same images for all before the first accuracy is read. Accuracies are those of one split; means are
over the seeds, with the standard error over these; that of the images themselves, which all lines share, stands beneath
the table. Every result is appended to a file at once, and a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from _common.examples import example_of
from _common.results import Results, by_images, mean, table
from _common.testbed import some
from torch import Tensor, fx

from pipeline import plugins
from pipeline.data import DataSet, Split, load_data
from pipeline.models import load_model
from pipeline.pruning.complexity import weigh
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH, FineTuning, accuracy, fine_tune, reestimate_batch_norm
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import Ranking, cut
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace

CRITERIA = "pipeline.pruning.criteria"
RANKING_IMAGES = 512
BATCH_NORM_IMAGES = 1280


def main() -> None:
    args = _arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load_data(args.data, seed=0)
    model = load_model(args.model, classes=len(data.classes), channels=data.shape[0], weights=args.weights)
    example = example_of(data.train)
    base = trace(model, example, classes=len(data.classes))
    space = search_space(base, example, step=1)
    kept, share = _half(base, space, example, args.macs)
    results = Results(args.out, {name: str(getattr(args, name)) for name in _SETTINGS})
    for seed in range(args.seeds):
        for criterion in args.criteria:
            if not results.find(criterion=criterion, seed=seed):
                figures = _figures(base, space, kept, data, example, criterion, seed, args)
                row = results.append(criterion=criterion, seed=seed, **figures)
                print(f"{criterion}, seed {seed}: {row['before']:.2%} → {row['after']:.2%}", flush=True)
    unpruned = accuracy(base, _scored(data, args), args.scored)
    cut_macs = results.rows()[0]["macs"] / space.macs
    print(f"\n{args.model} on {data.name}, unpruned {unpruned:.2%} on {args.scored} images of {args.split}")
    print(f"{len(space.groups)} groups keep {share:.1%} of their channels: {cut_macs:.1%} of the MACs")
    print(f"trained for {args.epochs:g} epochs on {args.images} images, teacher = unpruned; {args.seeds} seeds\n")
    print(_table(results, args.criteria))
    best = max(row["after"] for row in results.rows())
    images = min(args.scored, len(_scored(data, args)))
    print(f"±: standard error over the seeds; all lines share, and no ± shows, {by_images(best, images)}")


_SETTINGS = ("data", "model", "weights", "macs", "images", "epochs", "learning_rate", "split", "scored")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--model", default="resnet56")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--criteria", nargs="+", default=plugins.names(CRITERIA), help="all that there are")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--macs", type=float, default=0.5, help="share of the MACs that stays")
    parser.add_argument("--images", type=int, default=5000, help="to train on")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument(
        "--split", choices=("search", "val", "test"), default="test", help="that accuracies are read on"
    )
    parser.add_argument("--scored", type=int, default=5000, help="images of that split")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("criteria.jsonl"))
    return parser.parse_args()


def _half(base: fx.GraphModule, space: SearchSpace, example: Tensor, macs: float) -> tuple[dict[str, int], float]:
    """Return what each group keeps at the largest uniform share whose network has at most ``macs`` of the MACs."""
    order = {group.name: torch.arange(group.units) for group in space.groups}
    low, high = 0.0, 1.0
    for _ in range(8):
        middle = (low + high) / 2
        found = weigh(cut(base, space, _kept(space, middle), order, example), example).macs / space.macs
        low, high = (middle, high) if found <= macs else (low, middle)
    return _kept(space, low), low


def _kept(space: SearchSpace, share: float) -> dict[str, int]:
    return {group.name: group.width * max(1, round(share * group.units)) for group in space.groups}


def _figures(
    base: fx.GraphModule,
    space: SearchSpace,
    kept: Mapping[str, int],
    data: DataSet,
    example: Tensor,
    criterion: str,
    seed: int,
    args: argparse.Namespace,
) -> dict[str, float]:
    ranking = _ranking(base, space, data, example, criterion, seed)
    network = cut(base, space, kept, ranking, example)
    reestimate_batch_norm(network, data.train.batches(BATCH, limit=BATCH_NORM_IMAGES))
    before = accuracy(network, _scored(data, args), args.scored)
    settings = FineTuning(epochs=args.epochs, learning_rate=args.learning_rate, seed=seed)
    fine_tune(network, some(data.train, args.images, seed), settings, teacher=base)
    after = accuracy(network, _scored(data, args), args.scored)
    return {"before": before, "after": after, "macs": weigh(network, example).macs}


def _ranking(
    base: fx.GraphModule, space: SearchSpace, data: DataSet, example: Tensor, criterion: str, seed: int
) -> Ranking:
    images = some(data.train, RANKING_IMAGES, seed).batches(BATCH)
    return rank(base, space, criterion, dependency_graph(base, example).groups, images, seed=seed)


def _scored(data: DataSet, args: argparse.Namespace) -> Split:
    split: Split = getattr(data, args.split)
    return split


def _table(results: Results, criteria: Iterable[str]) -> str:
    """Return a line for each criterion, the most accurate after training first."""
    rows = {name: [row for row in results.rows() if row["criterion"] == name] for name in criteria}
    order = sorted(rows, key=lambda name: statistics.mean(row["after"] for row in rows[name]), reverse=True)
    lines = [
        [
            n,
            *(mean([row[when] for row in rows[n]], scale=100, unit=" %") for when in ("before", "after")),
            str(len(rows[n])),
        ]
        for n in order
    ]
    return table(["", "before", "after", "seeds"], lines)


if __name__ == "__main__":
    main()
