"""Where do the seconds of a trial go, and how near is a trial to its floor: the forward passes that an accuracy takes?

    python benchmarks/search_speed.py --data cifar10:DIR --model resnet20 --weights FILE [--run ID]

Reads the seconds of each stage as a run has stored them. Without --run, two are made: one is recorded, the other plays
the recording back, so that every stage is there and the host has its cores to itself, as with a board that is another
machine; the second is read. Nothing is fine-tuned. The floor is measured beside it, in this process with as many
threads and in the same precision: the same networks' forward passes over the images that an accuracy takes, decoded
and normalised before, and nothing else: those on which answers are counted, and those on which layers are fitted to the
cut before. The latter's own part is reported, and so is the fit as the run does it, as part of the cut.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from _common.examples import example_of
from _common.results import Results, Row, mean, table
from safetensors.torch import load_file
from torch import Tensor, fx

from pipeline.config import RunConfig
from pipeline.data import load_data
from pipeline.devices.recording import FILE_NAME
from pipeline.models import load_model
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH, parts
from pipeline.pruning.reconstruction.reconstruct import TargetActivations, reconstruct
from pipeline.pruning.surgery.prune import Ranking, kept_channels, prune, surplus
from pipeline.pruning.trace import trace
from pipeline.records import PruningPlan, SearchSpace, Trial
from pipeline.report.contents import usages
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, CONFIG
from pipeline.store.spaces import space_of_round
from pipeline.structures import Inputs, answer
from pipeline.training.accelerator import cpu, keep_freed_memory

STAGES = ("ask", "cut", "accuracy", "export", "weigh")
"""Of the host; what else a trial has in its seconds is reported as well."""
MEASURE = "measure"
NETS = 10
REPEATS = 3
WANTED = 0.25


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    run = args.run or _run(args)
    with Store.open(args.runs, run) as store:
        config = RunConfig.model_validate(store.get(CONFIG))
        trials = [t for t in store.trials() if t.failure is None and t.round == 1 and not t.cached]
        scene, usage = Scene.of(store, config), usages(store).get(1)
        results = Results(args.out, {"run": store.id, "threads": str(args.threads), "nets": str(args.nets)})
    for trial in _spread(trials, args.nets):
        if not results.find(trial=trial.index):
            results.append(trial=trial.index, **scene.floor(trial.plan))
    print(
        f"\n{config.model} on {config.data.partition(':')[0]}, strategy {config.strategy}, {len(trials)} trials", end=""
    )
    print(f", {config.evaluation.search_images} images an accuracy, {args.threads} torch thread(s) for the floor")
    _print(trials, [row for row in results.rows() if "fit_s" in row])
    if usage is not None:
        print(f"\n{usage.wall_s / len(trials):.2f} s a trial from the first to the last: {usage}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as for pipeline run; needed without --run, as are the weights")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--target", default="latency=0.5x")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--run", help="read this run instead of making one")
    parser.add_argument("--nets", type=int, default=NETS, help="candidates whose floor is measured")
    parser.add_argument("--threads", type=int, default=1, help="of torch; as many as the run used while measuring")
    parser.add_argument("--out", type=Path, default=Path("search_speed.jsonl"))
    return parser.parse_args()


def _run(args: argparse.Namespace) -> str:
    """Make a run on this machine and play it back; returns the second one."""
    if args.data is None or args.weights is None:
        raise SystemExit("without --run two runs are made, and need --data and --weights")
    options = {name: getattr(args, name) for name in ("data", "model", "weights", "target", "trials", "runs")}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        config, inventory = Path(folder) / "run.yaml", Path(folder) / "inventory.yaml"
        config.write_text(json.dumps({"fine_tuning": {"finalists": 1, "finalist_epochs": 0, "epochs": 0}}))
        run = [sys.executable, "-m", "pipeline", "run", *arguments, "--config", str(config)]
        subprocess.run([*run, "--record"], check=True)
        with Store.open(args.runs, "latest") as store:
            device = {"kind": "replay", "recording": str((store.path / FILE_NAME).resolve())}
        inventory.write_text(json.dumps({"devices": {"recorded": device}}))
        subprocess.run([*run, "--inventory", str(inventory), "--device", "recorded"], check=True)
    return "latest"


def _spread(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return trials at equal distances, so that early, shallow cuts and late, deep ones both count."""
    return list(trials[:: max(1, len(trials) // most)])[:most]


@dataclass(frozen=True)
class Scene:
    """A run's base network and images, as the search had them."""

    base: fx.GraphModule
    space: SearchSpace
    ranking: Ranking
    example: Tensor
    images: Sequence[Inputs]
    """On which accuracy is read, in batches, normalised."""
    answers: TargetActivations
    """Of the base network to the images on which layers are fitted to the cut."""

    @classmethod
    def of(cls, store: Store, config: RunConfig) -> Scene:
        """Load data and base network anew; which channels a ranking keeps changes no figure here."""
        data, evaluation = load_data(config.data, seed=config.seed), config.evaluation
        model = load_model(str(config.model), classes=len(data.classes), channels=data.shape[0], weights=None)
        model.load_state_dict(load_file(store.blob(store.required(BASE_WEIGHTS))))
        example = example_of(data.train)
        base, space = trace(model, example, classes=len(data.classes)), space_of_round(store, 1)
        few = data.train.batches(BATCH, limit=min(BATCH, evaluation.batch_norm_images))
        return cls(
            base, space, rank(base, space, "l1", dependency_graph(base, example).groups, []), example,
            [
                part
                for images, _ in data.search.batches(BATCH, limit=evaluation.search_images)
                for part in parts(images)
            ],
            TargetActivations(base, few, evaluation.reconstruction_samples),
        )  # fmt: skip

    def floor(self, plan: PruningPlan) -> dict[str, float]:
        """Return the seconds of a candidate's bare forward passes, and of the whole fit of its layers."""
        net = prune(self.base, self.space, plan.levels, self.ranking, self.example)
        units = surplus(self.space, plan.levels, self.ranking)
        kept = kept_channels(self.base, units, self.example)
        with cpu().autocast():
            return {
                "answers_s": _seconds(lambda: _forward(net, self.images)),
                "few_s": _seconds(lambda: _forward(net, [self.answers.images])),
                "fit_s": _seconds(lambda: reconstruct(net, self.answers, kept)),
            }


def _forward(net: fx.GraphModule, images: Sequence[Inputs]) -> None:
    net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with torch.inference_mode():
        for batch in images:
            answer(net, batch)


def _seconds(work: Callable[[], None]) -> float:
    """Return the median of a few times, after one that counts not."""
    work()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _print(trials: Sequence[Trial], floors: Sequence[Row]) -> None:
    names = [*STAGES, *sorted({name for t in trials for name in t.seconds} - {*STAGES, MEASURE})]
    seconds = {name: [t.seconds.get(name, 0.0) for t in trials] for name in (*names, MEASURE)}
    forward = [row["answers_s"] + row["few_s"] for row in floors]
    floor = statistics.mean(forward)

    def line(name: str, values: Sequence[float]) -> list[str]:
        median = f"{1000 * statistics.median(values):.0f}"
        return [name, mean(values, scale=1000, digits=0), median, f"{statistics.mean(values) / floor:.2f}"]

    host = [sum(seconds[name][i] for name in names) for i in range(len(trials))]
    rows = [line("floor: the forward passes alone", forward)]
    rows += [line("  of them to fit layers to the cut", [row["few_s"] for row in floors])]
    rows += [line(name, seconds[name]) for name in names]
    rows += [line("of cut: layers fitted to it", [row["fit_s"] for row in floors])]
    rows += [line("host together", host), line("measure, on the device", seconds[MEASURE])]
    print(table(["", "ms a trial", "median", "floors"], rows))
    print("±: standard error over the trials, or over the nets of the floor, of this one run")
    surplus = statistics.mean(host) / floor - 1
    print(f"\nall host work but the forward passes: {surplus:.0%} of them (wanted: {WANTED:.0%} or less)")


if __name__ == "__main__":
    main()
