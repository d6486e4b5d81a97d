"""What choosing among networks while they run is worth: a ladder on CIFAR-10 against every opponent.

    python benchmarks/adaptation.py --data cifar10:DIR --weights resnet20=FILE --weights resnet56=FILE

The first network is the plain one; a cheap one is cut from it by one level everywhere, a robust one is the plain one
recovered on corrupted images with itself on the clean images as teacher; further networks are candidates as they are.
All are measured on the local device, in turns with the plain one. The published weights have seen all training images,
so half of the test split tunes and selects, and the other half judges. Costs are of a frame, in inferences of the plain
network, at the best fixed variant's accuracy less 2, 1 and 0 points; streams are 24 of --length frames in each set.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from _common.results import table

from deploy.controller import decision_us
from pipeline.adaptation.choice import controller_json
from pipeline.adaptation.judgement import interval
from pipeline.adaptation.rule_in_words import rule_in_words
from pipeline.adaptation.study import QUICK, Size, Studied, StudySettings, ordered, study
from pipeline.config import RunConfig
from pipeline.devices.inventory.load import load_inventory
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Event, Note, Stage, StageProgress
from pipeline.export.format import open_format
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.signature import signature_of
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.trace import trace
from pipeline.records import PruningPlan
from pipeline.records.adaptation import JudgedStreams
from pipeline.report.adaptation import cells, in_brackets
from pipeline.run.base_model import make_base
from pipeline.run.context import Context
from pipeline.run.ladder import LadderBuilder
from pipeline.run.provenance import store_provenance
from pipeline.run.round import builder_of
from pipeline.run.runner import prepared
from pipeline.run.splitting import store_splits
from pipeline.run.unseen_images import divided_test
from pipeline.store import Store

STEP, LEVEL = 8, 50
"""Channels that the cheap network keeps come in such steps; the level of all its groups, in percent."""
PLAIN, CHEAP, ROBUST = "plain", "cheap", "robust"
_MEMORY = """
import sys
from deploy.controller import process_bytes as resident
from deploy.runtime import open_onnx
kept, before = [], resident()
for path in sys.argv[1:]:
    kept.append(open_onnx(path))
    print(resident() - before)
"""


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    start = time.monotonic()
    networks = dict(one.split("=", 1) for one in args.weights)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.cache or Path(scratch)
        files, found = _studied(args, networks, folder)
        _print(found, files, args, time.monotonic() - start)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--weights", action="append", required=True, metavar="MODEL=FILE", help="the plain one first")
    parser.add_argument(
        "--cache", type=Path, help="folder in which variants and measurements are kept for another time"
    )
    parser.add_argument("--inventory", type=Path, help="whose device `local` says how long to measure")
    parser.add_argument("--training-minutes", type=float, default=6.0, help="for the cheap and the robust network")
    parser.add_argument("--deadline-ms", type=float, help="a frame may take; with slow-down events. Default: none")
    parser.add_argument("--floor", type=float, help="default: the plain network's accuracy on the selection streams")
    parser.add_argument("--images", type=int, default=Size().images, help="of each part")
    parser.add_argument("--length", type=int, default=Size().length, help="frames of a stream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few passes, few frames: shows that everything runs")
    return parser.parse_args()


def _studied(args: argparse.Namespace, networks: Mapping[str, str], cache: Path) -> tuple[dict[str, bytes], Studied]:
    """Return the candidates' files, and the study."""
    (name, weights), *others = networks.items()
    config = RunConfig(
        data=args.data, model=name, weights=Path(weights), threads=1, seed=args.seed, precision="float32"
    )
    device = load_inventory(args.inventory, partial=True).device("local")
    there = Store.list(cache)
    with (
        Store.open(cache, "latest", write=True) if there else Store.create(cache, label="ladder") as store,
        prepared(config, device, listen=_tell) as ready,
    ):
        inputs, context = ready.inputs, ready.context(store, listen=_tell, stopping=lambda: False)
        store_provenance(context, signature_of(inputs.network))
        store_splits(store, inputs.data)
        base = make_base(context, inputs.model)
        space = search_space(base.network, context.example, step=STEP)
        builder = replace(builder_of(context, base.network, space), space=space)
        bench = Bench(context.boards, store, base.skeleton)
        made = LadderBuilder(
            context=context, builder=builder, bench=bench, base=base, budget_s=60 * args.training_minutes,
            quick=args.smoke,
        )  # fmt: skip
        plain = made.uncut()
        levels = tuple(LEVEL if LEVEL in group.kept else 0 for group in space.groups)
        artifacts = {PLAIN: plain, CHEAP: made.of_plan(PruningPlan(levels=levels, criterion=config.criterion)),
                     ROBUST: made.robust(plain)}  # fmt: skip
        files = {key: store.blob(one.files["model.onnx"]).read_bytes() for key, one in artifacts.items()}
        ratios = {key: one.after.measurement.ratio for key, one in artifacts.items()}
        for other, path in others:
            files[other] = _file(context, other, Path(path))
            ratios[other] = bench.measure_file(files[other], f"whole:{other}").ratio
        shares = {key: ratio.value for key, ratio in ratios.items() if ratio is not None}
    costs = {key: share / shares[PLAIN] for key, share in shares.items()}
    latencies = {key: share * base.figures.measurement.p50_ms.value for key, share in shares.items()}
    names = list(files)
    ladder, order = ordered(names, [costs[one] for one in names], [latencies[one] for one in names], args.deadline_ms)
    parts = divided_test(inputs.data, "published weights")
    size = QUICK if args.smoke else Size(images=args.images, length=args.length)
    settings = StudySettings(size=size, most=4, plain=PLAIN, floor=args.floor, seed=args.seed)
    scores = [open_on_host(files[names[i]]) for i in order]
    found = study(scores, ladder, (parts.tuning, parts.selection), parts.test, settings, listen=_tell)
    return files, found


def _file(context: Context, name: str, weights: Path) -> bytes:
    """Return another network as a file for the device."""
    data = context.data
    model = load_model(name, classes=len(data.classes), channels=data.shape[0], weights=weights)
    network = trace(model, context.example, classes=len(data.classes))
    return open_format("onnx", network, context.example, support=context.agent.onnx_support).file(network)


def _tell(event: Event) -> None:
    if isinstance(event, (Stage, Note)):
        print(f"  {event.name if isinstance(event, Stage) else event.text}", file=sys.stderr, flush=True)
    elif isinstance(event, StageProgress) and event.done % 4000 == 0:
        print(f"    {event.done} {event.note}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- what is printed


def _print(found: Studied, files: Mapping[str, bytes], args: argparse.Namespace, seconds: float) -> None:
    ladder, choice = found.ladder, found.choice
    rows = [
        (name, f"{ms:.3g} ms", f"{cost:.2f}×", f"{clean:.1%}", f"{corrupted:.1%}")
        for name, ms, cost, clean, corrupted in zip(
            ladder.names, ladder.latencies_ms, ladder.costs, found.clean, found.corrupted, strict=True
        )
    ]
    print(table(("variant", "latency", "cost", "clean", "corrupted"), rows))
    for one in found.dropped:
        print(f"of {len(files)} candidates, {one.name} is left out: {one.why}")
    ceiling = interval(choice.ceiling)
    print(f"ceiling (rule over condition oracle, at the floor of {choice.floor:.1%}): {in_brackets(ceiling)}")
    print(f"ships: {choice.ships}; {choice.why}")
    print(f"rule: {rule_in_words(choice.points['normal'].rule, ladder.names)}")
    for judged in found.judged:
        print(f"\n{_table(judged)}")
    print("\ncost of what ships over that of (at −1 point of the best fixed variant; 95 % bootstrap over streams):")
    opponents = [one.over for one in found.judged[0].ratios if one.below == 0.01]
    print(table(
        ("", *(judged.name for judged in found.judged)),
        [(name, *(in_brackets(judged.ratio(name, 0.01)) for judged in found.judged)) for name in opponents],
    ))  # fmt: skip
    _print_footprint(found, files)
    print(f"\n{found.frames:,} frames answered by every variant; {seconds / 60:.1f} minutes in all, seed {args.seed}")


def _table(judged: JudgedStreams) -> str:
    below = [f"cost at −{100 * one:g}" if one else "cost at 0" for one in judged.below]
    header = (judged.name, "right", "cost", "late", "switches/1000", "kept", *below)
    shown = table(header, [(one.name, *cells(one)) for one in judged.methods])
    times = f"answered frames: median {judged.p50_ms:.3g} ms, 99th percentile {judged.p99_ms:.3g} ms"
    return f"{shown}\nbest fixed: {judged.best_fixed}, {judged.best_accuracy:.1%}; {times}"


def _print_footprint(found: Studied, files: Mapping[str, bytes]) -> None:
    """Print how long a decision takes, and what all open networks take of memory."""
    names = found.ladder.names
    file = controller_json(found.choice, found.ladder, [f"{name}.onnx" for name in names], ring=1000)
    taken = {side: decision_us(file, (3, side, side)) for side in (32, 224)}
    print("\na decision takes " + ", ".join(f"{us:.0f} µs at {side} px" for side, us in taken.items()))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.onnx" for name in names]
        for name, path in zip(names, paths, strict=True):
            path.write_bytes(files[name])
        command = [sys.executable, "-c", _MEMORY, *map(str, paths)]
        grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    shown = ", ".join(f"+ {name} {int(size) / 1e6:.1f} MB" for name, size in zip(names, grown, strict=True))
    print(f"resident memory, ONNX Runtime included, after {shown}")


if __name__ == "__main__":
    main()
