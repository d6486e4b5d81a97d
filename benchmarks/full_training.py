"""A pruned net trained to the end, for a machine with a GPU: by MACs or by channels, as papers count.

ResNet-56 with 2.1 times fewer MACs; DepGraph (G. Fang et al., CVPR 2023, table 1) has 93.53 → 93.77 at 2.11x:

    python benchmarks/full_training.py --data cifar10:DIR --model resnet56 --weights FILE --by macs --keep 0.474

VGG-19 with 60 % of its channels gone, where RL-Pruner (B. Wang et al., 2024) says that less than a point is lost; the
base model is trained first:

    python benchmarks/full_training.py --data cifar100:DIR --model cifar_vgg19_bn --by channels --keep 0.4

A run's targets are what a device can be asked for, so the search itself is used here as in equal_budget.py, with the
share of the MACs (or of the output channels) in the place of latency: its table of single cuts is counted, not
measured, and so is every candidate. The most accurate candidate that is small enough is trained with the base model as
teacher; the test split is read once for each network. Both networks have seen the same images: all but the test split
where weights are given, else the training split. --smoke shows within minutes on a processor that everything runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from _common.results import Results, Row, table
from _common.testbed import Testbed, add_arguments, opened, some
from torch import fx

from pipeline.config import RunConfig
from pipeline.data import Split, load_data
from pipeline.evaluation.candidate_builder import Built
from pipeline.events import Event, Note, Stage, StageProgress
from pipeline.models import load_model
from pipeline.models.safetensors_io import weights_bytes
from pipeline.predictors.cost_model import CostModel, CostTable, owners
from pipeline.predictors.layer_costs import Shrinking
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.reconstruction.batch_norm import FineTuning, accuracy, fine_tune
from pipeline.pruning.surgery.prune import prune
from pipeline.records import LEVELS, Candidate, Measurement, Trial
from pipeline.run.training_stage import discard_checkpoint, train_with_checkpoints
from pipeline.store.checkpoints import CheckpointFile
from pipeline.training.accelerator import open_accelerator
from pipeline.training.checkpoint import Checkpoints

By = Literal["macs", "channels"]

SMOKE = {"images": 512, "epochs": 3.0, "base_epochs": 5.0, "trials": 6, "test_images": 500}
TOLD_EVERY = 100
"""Steps between two lines about a training."""
PUBLISHED = {
    ("resnet56", "macs"): "DepGraph, published: 93.53 % → 93.77 % with 2.11x fewer MACs",
    ("cifar_vgg19_bn", "channels"): "RL-Pruner, published: less than a point lost with 60 % of the channels gone",
}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    weights = args.weights or _trained_base(args)
    names = (
        "data",
        "model",
        "weights",
        "by",
        "keep",
        "trials",
        "strategy",
        "epochs",
        "learning_rate",
        "images",
        "seed",
    )
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    config = RunConfig(
        data=args.data, model=args.model, weights=weights, threads=args.threads, accelerator=args.accelerator,
        criterion=args.criterion,
    )  # fmt: skip
    with opened(config, args.cache, "predicted", args.inventory, _tell) as bed:
        row = results.find() or results.append(**_trained(bed, args))
        _print(bed, args, row)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, model="resnet56", weights="without: a base model is trained first")
    parser.add_argument("--by", choices=("macs", "channels"), default="macs")
    parser.add_argument("--keep", type=float, default=0.474, help="share that stays, at most")
    parser.add_argument("--strategy", default="dqn")
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--epochs", type=float, default=100.0, help="of the pruned net")
    parser.add_argument("--learning-rate", type=float, default=0.03, help="of the pruned net, highest")
    parser.add_argument("--base-epochs", type=float, default=200.0, help="of a base model that is trained here")
    parser.add_argument("--base-learning-rate", type=float, default=0.1)
    parser.add_argument("--images", type=int, help="to train on; default: all")
    parser.add_argument("--test-images", type=int, help="of the test split; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--smoke", action="store_true", help=f"tiny: {SMOKE}")
    parser.add_argument("--out", type=Path, default=Path("full_training.jsonl"))
    args = parser.parse_args()
    if args.smoke:
        vars(args).update(SMOKE)
    return args


def _tell(event: Event) -> None:
    if isinstance(event, StageProgress) and event.done % TOLD_EVERY == 0 and "loss" in event.note:
        print(f"  step {event.done}, {event.note}", flush=True)
    elif isinstance(event, (Stage, Note)):
        print(f"  {event.name if isinstance(event, Stage) else event.text}", flush=True)


def _trained_base(args: argparse.Namespace) -> Path:
    """Return the weights of a base model trained on the training split; kept in the cache, a stopped one goes on."""
    size = f"{args.base_epochs:g}-epochs-{args.images or 'all'}-images-seed-{args.seed}"
    file: Path = args.cache / f"{args.model}-{args.data.partition(':')[0]}-{size}.safetensors"
    if file.exists():
        return file
    data = load_data(args.data, seed=0)
    torch.manual_seed(args.seed)
    model = load_model(args.model, classes=len(data.classes), channels=data.shape[0], weights=None)
    slot = CheckpointFile(args.cache / "trainings", file.stem)
    settings = FineTuning(
        epochs=args.base_epochs, learning_rate=args.base_learning_rate, warmup=0.05, teacher_mix=0.0, seed=args.seed
    )
    print(f"  train a base model: {settings.epochs:g} epochs", flush=True)
    args.cache.mkdir(parents=True, exist_ok=True)
    fine_tune(
        model, _some(data.train, args), settings, checkpoints=Checkpoints(slot=slot),
        accelerator=open_accelerator(args.accelerator),
        on_step=lambda step, _, loss: _tell(StageProgress(step, f"loss {loss:.3f}")),
    )  # fmt: skip
    file.write_bytes(weights_bytes(model))
    slot.remove()
    return file


def _some(split: Split, args: argparse.Namespace) -> Split:
    return some(split, args.images, args.seed) if args.images else split


def _trained(bed: Testbed, args: argparse.Namespace) -> dict[str, object]:
    """Return the figures of the base, and of the best candidate as it was cut and after its training."""
    best = _best(_search(bed, args), args)
    print(
        f"  trial {best.index}: {best.candidate.accuracy:.1%} on the search split" if best.candidate else "", flush=True
    )
    data, context = bed.context.data, bed.context
    images = data.everything_but_test() if args.weights else data.train
    settings = FineTuning(epochs=args.epochs, learning_rate=args.learning_rate, warmup=0.05, seed=args.seed)
    net = bed.builder.finalist(best.plan)
    cut = _test(bed, net, args)
    train_with_checkpoints(
        context, net, _some(images, args), settings, name=f"full {best.key} {args.epochs:g} {args.seed}",
        title=f"Train the pruned net, {args.epochs:g} epochs", teacher=bed.base.network,
        judge=None if args.weights else data.search,
    )  # fmt: skip
    found = measures_of(net, context.example)
    row = {
        "base": _test(bed, bed.base.network, args), "cut": cut, "after": _test(bed, net, args), "key": best.key,
        "levels": best.plan.levels, "macs": found.macs, "channels": found.channels, "parameters": found.parameters,
        "search": best.candidate.accuracy if best.candidate else None,
    }  # fmt: skip
    discard_checkpoint(context, f"full {best.key} {args.epochs:g} {args.seed}")
    return row


def _search(bed: Testbed, args: argparse.Namespace) -> Iterator[Trial]:
    """Return the trials of a search in whose costs a share of the MACs, or of the channels, stands for latency."""
    problem = bed.problem({"latency": args.keep}, strategy=args.strategy, trials=args.trials, seed=args.seed)
    problem = replace(problem, costs=CostModel({"latency": _counted(bed, args.by)}), limits={"latency": args.keep})

    def measure(built: Built) -> tuple[Measurement, bool]:
        return bed.taken_for_true(_share(bed, built.candidate, args.by)), False

    return bed.searched(args.strategy, problem, measure, limits={"latency": args.keep}, lookahead=0)


def _counted(bed: Testbed, by: By) -> CostTable:
    """Return what each single cut saves, by counting; channels add up, MACs are shared by neighbours."""
    builder, space = bed.builder, bed.builder.space
    owner = owners(space)
    whole = getattr(measures_of(builder.base, builder.example), by)
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        for level in group.levels:
            levels = tuple(level if j == i else 0 for j in range(len(space.groups)))
            net = prune(builder.base, space, levels, builder.ranking, builder.example)
            savings[i, LEVELS.index(level)] = 1 - getattr(measures_of(net, builder.example), by) / whole
        if owner[i] != i and 100 in group.levels:
            savings[i, LEVELS.index(100)] = 0.0  # the block's first group stands for the block
    return CostTable(savings, owner, Shrinking.of(space) if by == "macs" else None)


def _share(bed: Testbed, candidate: Candidate, by: By) -> float:
    base = bed.base.figures
    if by == "macs":
        return candidate.macs / base.macs
    assert candidate.channels is not None
    assert base.channels is not None
    return candidate.channels / base.channels


def _best(trials: Iterator[Trial], args: argparse.Namespace) -> Trial:
    feasible = [trial for trial in trials if trial.feasible and trial.candidate is not None]
    if not feasible:
        raise SystemExit(f"no candidate keeps {args.keep:g} of the {args.by} or less; allow more --trials")
    return max(feasible, key=lambda trial: trial.candidate.accuracy if trial.candidate else 0.0)


def _test(bed: Testbed, net: fx.GraphModule, args: argparse.Namespace) -> float:
    return accuracy(net, bed.context.data.test, args.test_images)


def _print(bed: Testbed, args: argparse.Namespace, row: Row) -> None:
    base = bed.base.figures
    data, images = bed.context.data.name, args.images or "all"
    print(f"\n{args.model} on {data}, {args.strategy}, {args.trials} trials, at most {args.keep:g} of the {args.by};")
    print(f"{args.epochs:g} epochs on {images} images, teacher = base; test split, read once\n")
    shares = [
        f"{row[name] / getattr(base, name):.3f}x ({getattr(base, name) / row[name]:.2f}x fewer)"
        for name in ("macs", "channels", "parameters")
    ]
    rows = [
        ["base", "1", "1", "1", f"{row['base']:.2%}", ""],
        ["as cut, batch norm re-estimated", *shares, f"{row['cut']:.2%}", f"{100 * (row['cut'] - row['base']):+.2f}"],
        ["trained", *shares, f"{row['after']:.2%}", f"{100 * (row['after'] - row['base']):+.2f}"],
    ]
    print(table(["", "MACs", "channels", "parameters", "test", "points"], rows))
    if (args.model, args.by) in PUBLISHED:
        print(f"\n{PUBLISHED[args.model, args.by]}")


if __name__ == "__main__":
    main()
