"""What does the final training win back: after 3, 10 and 30 passes, and trained until it stops helping?

    python benchmarks/recovery.py --data cifar10:DIR --net resnet20=FILE --net resnet56=FILE
    python benchmarks/recovery.py --data cifar10:DIR --net resnet20=FILE:75 --lengths 10 --teacher-mixes 0 1

Each net is cut by a level in every group (50 %, or what is named behind the file), fitted to its cut and trained by the
pipeline's own loop with the base as teacher, from the same weights each time, on the training split. Points that are
lost are the base's accuracy less the trained net's, both on the test split; the judged ones are the search and
validation splits, by which auto ends. A cell that is known is not trained again; a stopped training goes on.
`--images 256 --min-steps 2 --lengths 1 auto --max-epochs 6` shows within minutes that everything runs.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _common.halved import Halved, halved
from _common.results import Results, Row, by_images, table
from _common.testbed import some

from pipeline.config import FineTuningConfig
from pipeline.data import DataSet, Split, load_data
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.store.checkpoints import CheckpointFile
from pipeline.training.accelerator import Accelerator, keep_freed_memory, open_accelerator
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.pace import measure_pace
from pipeline.training.settings import FineTuning, settings_in_full
from pipeline.training.trainer import fine_tune

_LEVEL = 50
_TOLD_EVERY = 200
"""Steps between two lines about a training."""


def main() -> None:
    args = _arguments()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    data = load_data(args.data, seed=0)
    results = Results(args.out, {name: str(getattr(args, name)) for name in ("data", "images", "min_steps", "seed")})
    for net in args.net:
        rows = _rows(net, data, results, args)
        print(f"\n{net}: base {rows[0]['base']:.2%}, cut {rows[0]['cut']:.2%}", end=", ")
        print(f"test {by_images(rows[0]['base'], args.images or len(data.test))}\n")
        header = ("passes", "rate", "teacher", "passes taken", "judged", "test", "points lost", "seconds")
        print(table(header, [_cells(row) for row in rows]), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    section = FineTuningConfig()
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument(
        "--net", action="append", required=True, metavar="MODEL=FILE[:LEVEL]", help="trained weights; several times"
    )
    parser.add_argument("--lengths", nargs="+", default=("3", "10", "30", "auto"), help="passes, or auto")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=(section.learning_rate,))
    parser.add_argument("--teacher-mixes", nargs="+", type=float, default=(section.teacher_mix,))
    parser.add_argument("--teacher-views", nargs="+", type=int, default=(section.teacher_views,))
    parser.add_argument("--max-epochs", type=float, default=section.max_epochs, help="of auto")
    parser.add_argument("--min-steps", type=int, default=section.min_steps)
    parser.add_argument("--images", type=int, help="of each split; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("recovery.jsonl"))
    parser.add_argument("--checkpoints", type=Path, default=Path("recovery-checkpoints"))
    return parser.parse_args()


def _rows(net: str, data: DataSet, results: Results, args: argparse.Namespace) -> list[Row]:
    """Return a net's row for each way of training it; those that are missing are trained."""
    model, _, place = net.partition("=")
    file, _, level = place.partition(":")
    weights = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
    names: dict[str, Any] = {"model": model, "weights": weights, "level": int(level or _LEVEL)}
    nets: list[Halved] = []  # made once, and only where something is missing
    found = []
    ways = itertools.product(args.lengths, args.learning_rates, args.teacher_mixes, args.teacher_views)
    for length, rate, mix, views in ways:
        most = args.max_epochs if length == "auto" else float(length)
        way = {"length": length, "most": most, "rate": rate, "mix": mix, "views": views}
        if (row := results.find(**names, **way)) is None:
            if not nets:
                nets.append(halved(model, Path(file), data, level=names["level"]))
            row = results.append(**names, **way, **_trained(nets[0], names | way, data, args))
        found.append(row)
    return found


def _trained(nets: Halved, way: dict[str, object], data: DataSet, args: argparse.Namespace) -> dict[str, float]:
    """Train a net one way; return accuracies, passes and seconds."""
    section = FineTuningConfig(
        epochs="auto" if way["length"] == "auto" else float(str(way["length"])), max_epochs=args.max_epochs,
        min_steps=args.min_steps, learning_rate=way["rate"], teacher_mix=way["mix"], teacher_views=way["views"],
    )  # fmt: skip
    settings = settings_in_full(section, seed=args.seed)
    images, judge, test = (
        some(split, args.images, args.seed) if args.images else split
        for split in (data.train, data.search_and_val(), data.test)
    )
    network = copy.deepcopy(nets.cut)
    name = json.dumps([way, args.seed, args.images, args.min_steps])
    slot = CheckpointFile(args.checkpoints, hashlib.sha256(name.encode()).hexdigest())
    print(f"  {way}", flush=True)
    went = fine_tune(
        network, images, settings, teacher=nets.base, accelerator=_accelerator(nets, images, settings, args),
        score=lambda net: accuracy(net, judge), checkpoints=Checkpoints(slot=slot), on_step=_tell,
    )  # fmt: skip
    row = {
        "base": accuracy(nets.base, test), "cut": accuracy(nets.cut, test), "test": accuracy(network, test),
        "judged": accuracy(network, judge), "passes": went.ended / settings.steps_a_pass(len(images)),
        "seconds": went.seconds,
    }  # fmt: skip
    slot.remove()
    return row


def _accelerator(nets: Halved, images: Split, settings: FineTuning, args: argparse.Namespace) -> Accelerator:
    on = open_accelerator(args.accelerator)
    return on if measure_pace(nets.cut, images, settings, on).half_is_faster else replace(on, half=None)


def _tell(step: int, end: int, loss: float) -> None:
    if step % _TOLD_EVERY == 0:
        print(f"    step {step} of {end}, loss {loss:.3f}", flush=True)


def _cells(row: Row) -> tuple[str, ...]:
    lost = 100 * (row["base"] - row["test"])
    return (
        f"{row['length']}", f"{row['rate']:g}", f"{row['mix']:g}, {row['views']} views", f"{row['passes']:.3g}",
        f"{row['judged']:.2%}", f"{row['test']:.2%}", f"{lost:.2f}", f"{row['seconds']:.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
