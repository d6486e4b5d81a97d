"""Which criterion picks the channels best? Every one of them at the same widths, before and after the same training.

    python benchmarks/criteria.py --data cifar10:DIR --weights FILE --model resnet56 [--images 5000 --epochs 1]

All groups keep the same share of their channels, so that every criterion gives a network of the same shape: the share,
found by bisection, at which the whole network holds the given part of its MACs (half). No block is removed. A seed
draws the 512 training images that a criterion may read, and which images are trained on in which order. Batch norm is
re-estimated on the same images for all before the first accuracy is read. Accuracies are those of one split; means are
over the seeds, with their standard error. Every result is appended to a file at once, and a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pipeline import plugins
from pipeline.pruning.coupling import coupling
from pipeline.pruning.groups import search_space
from pipeline.pruning.measures import weigh
from pipeline.pruning.prune import Ranking, cut
from pipeline.pruning.ranking import rank
from pipeline.pruning.recover import FineTuning, accuracy, fine_tune, reestimate_batch_norm
from pipeline.pruning.tracing import trace
from pipeline.records import SearchSpace
from pipeline.zoo import DataSet, Split, load_data, load_model

CRITERIA = "pipeline.pruning.criteria"
BATCH = 256
RANKING_IMAGES = 512
BATCH_NORM_IMAGES = 1280


def main() -> None:
    told = _arguments()
    if told.threads:
        torch.set_num_threads(told.threads)
    data = load_data(told.data, seed=0)
    model = load_model(told.model, classes=len(data.classes), channels=data.shape[0], weights=told.weights)
    example = next(data.train.batches(8))[0]
    base = trace(model, example, classes=len(data.classes))
    space = search_space(base, example, step=1)
    kept, share = _half(base, space, example, told.macs)
    settings = {name: str(getattr(told, name)) for name in _SETTINGS}
    known = _known(told.out, settings)
    for seed in range(told.seeds):
        for criterion in told.criteria:
            if (criterion, seed) not in known:
                row = _row(base, space, kept, data, example, criterion, seed, told)
                known[criterion, seed] = row
                with told.out.open("a") as file:
                    file.write(json.dumps({"settings": settings, "criterion": criterion, "seed": seed, **row}) + "\n")
                print(f"{criterion}, seed {seed}: {row['before']:.2%} → {row['after']:.2%}", flush=True)
    unpruned = accuracy(base, _scored(data, told))
    cut_macs = next(iter(known.values()))["macs"] / space.macs
    print(f"\n{told.model} on {data.name}, unpruned {unpruned:.2%} on {told.scored} images of {told.split}")
    print(f"{len(space.groups)} groups keep {share:.1%} of their channels: {cut_macs:.1%} of the MACs")
    print(f"trained for {told.epochs:g} epochs on {told.images} images, teacher = unpruned; {told.seeds} seeds\n")
    _print_table(known, told.criteria)


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


def _known(out: Path, settings: Mapping[str, str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the results of earlier calls with the same settings."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {(row["criterion"], row["seed"]): row for row in rows if row["settings"] == settings}


def _row(
    base: fx.GraphModule,
    space: SearchSpace,
    kept: Mapping[str, int],
    data: DataSet,
    example: Tensor,
    criterion: str,
    seed: int,
    told: argparse.Namespace,
) -> dict[str, float]:
    ranking = _ranking(base, space, data, example, criterion, seed)
    network = cut(base, space, kept, ranking, example)
    reestimate_batch_norm(network, data.train.batches(BATCH, limit=BATCH_NORM_IMAGES))
    before = accuracy(network, _scored(data, told))
    settings = FineTuning(epochs=told.epochs, learning_rate=told.learning_rate, seed=seed)
    fine_tune(network, _some(data.train, told.images, seed), settings, teacher=base)
    after = accuracy(network, _scored(data, told))
    return {"before": before, "after": after, "macs": weigh(network, example).macs}


def _ranking(
    base: fx.GraphModule, space: SearchSpace, data: DataSet, example: Tensor, criterion: str, seed: int
) -> Ranking:
    images = _some(data.train, RANKING_IMAGES, seed).batches(BATCH)
    return rank(base, space, criterion, coupling(base, example).groups, images, seed=seed)


def _some(split: Split, images: int, seed: int) -> Split:
    """Return so many images of a split, drawn by ``seed``."""
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images]
    return Split(split.pool, split.indices[drawn], split.mean, split.std)


def _scored(data: DataSet, told: argparse.Namespace) -> Iterable[tuple[Tensor, Tensor]]:
    split: Split = getattr(data, told.split)
    return split.batches(BATCH, limit=told.scored)


def _print_table(known: Mapping[tuple[str, int], Mapping[str, float]], criteria: Iterable[str]) -> None:
    print(f"{'':<18}{'before':>18}{'after':>18}{'seeds':>7}")
    rows = []
    for criterion in criteria:
        found = [row for (name, _), row in sorted(known.items()) if name == criterion]
        cells = [_mean([row[when] for row in found]) for when in ("before", "after")]
        rows.append((statistics.mean(row["after"] for row in found), criterion, cells, len(found)))
    for _, criterion, cells, seeds in sorted(rows, reverse=True):
        print(f"{criterion:<18}" + "".join(f"{cell:>18}" for cell in cells) + f"{seeds:>7}")


def _mean(values: list[float]) -> str:
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) < 2:
        return f"{mean} %"
    return f"{mean} ± {100 * statistics.stdev(values) / math.sqrt(len(values)):.2f} %"


if __name__ == "__main__":
    main()
