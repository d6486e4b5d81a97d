"""The DQN's nets beside Torch-Pruning's and uniform L1 pruning, at the same measured latency and the same fine-tuning.

    python benchmarks/against_torch_pruning.py --data cifar10:DIR --model resnet20 --weights FILE --targets 0.5 0.7

The DQN's side is one `pipeline run` a seed (or --run ID for each finished one); of it only the chosen plan counts. The
other side is bisected: the least ratio whose net is no slower, as measured beside the base model (batch 1, threads as
in the inventory), than the target, or than the DQN's nets where those are slower, and one percent. Uniform L1 may keep
any number of channels. Then for all: batch norm re-estimated on 2560 images, test accuracy, 2 epochs on 10,000 images
without a teacher (SGD 0.01, momentum 0.9, weight decay 1e-4, cosine, batch 128, flipped and cropped), test accuracy.
The DQN's nets are judged once more with their layers fitted to the base's answers first, on 2048 images without labels,
as a run does with its finalists. A seed draws the images that a criterion reads, those that are trained on, and their
order. Means are over the seeds, and so are standard errors; the test images, which all lines share, are in none.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _common.examples import example_of
from _common.results import Results, Row, by_images, mean, table
from _common.testbed import LIKE_PEERS, LIKE_PEERS_IMAGES, some
from _common.torch_pruning_peers import PEERS, pruned
from torch import Tensor, fx, nn

from pipeline.config import RunConfig
from pipeline.data import DataSet, load_data
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.skeleton import skeleton
from pipeline.models import load_model
from pipeline.pruning.complexity import weigh
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH, accuracy, fine_tune, reestimate_batch_norm
from pipeline.pruning.reconstruction.reconstruct import TargetActivations, reconstruct
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import cut, kept_channels, prune, surplus
from pipeline.pruning.trace import trace
from pipeline.store import Store
from pipeline.store.facts import CONFIG
from pipeline.store.spaces import space_of_round

SLACK = 1.01
HALVINGS = 7
DEEPEST = 0.98
RANKING_IMAGES = 512
BATCH_NORM_IMAGES = 2560
UNIFORM = "uniform L1"
OURS = "pipeline run"
FITTED = "pipeline run, layers fitted"
LONGER_S = 1.5
"""A net is measured so long at least, three times a candidate's time."""

Make = Callable[[float, int], fx.GraphModule]
"""Ratio and seed → the network of a method."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What all nets share."""

    data: DataSet
    model: nn.Module
    base: fx.GraphModule
    example: Tensor
    agent: Agent
    skeleton: bytes
    """The base model's skeleton."""

    def latency(self, net: fx.GraphModule) -> float:
        """Return a net's median latency over the base's, taking turns."""
        settings = replace(self.agent.device.measure, min_s=LONGER_S)
        file = export(net, self.example, self.agent.onnx_support)
        found = self.agent.measure(file, "onnx", reference=(self.skeleton, "skeleton"), settings=settings)
        assert found.ratio is not None
        return found.ratio.value

    def fit(self, net: fx.GraphModule, kept: Mapping[str, Tensor]) -> None:
        """Fit a net's layers to what the base answers, as a run does with its finalists."""
        settings = RunConfig().fine_tuning
        images = self.data.train.batches(BATCH, limit=settings.reconstruction_images)
        reconstruct(net, TargetActivations(self.base, images, settings.reconstruction_samples), kept)

    def retarget(self, net: fx.GraphModule, seed: int) -> dict[str, float]:
        """Return a net's share of MACs, and its test accuracy before and after the fine-tuning."""
        train, test = self.data.train, self.data.test
        reestimate_batch_norm(net, train.batches(BATCH, limit=BATCH_NORM_IMAGES))
        macs = weigh(net, self.example).macs / weigh(self.base, self.example).macs
        before = accuracy(net, test)
        fine_tune(net, some(train, LIKE_PEERS_IMAGES, seed), replace(LIKE_PEERS, seed=seed))
        return {"macs": macs, "before": before, "after": accuracy(net, test)}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    results = Results(args.out, {name: str(getattr(args, name)) for name in ("data", "model", "weights", "trials")})
    runs = {(target, seed): _run(args, results, target, seed) for target in args.targets for seed in range(args.seeds)}
    with open_agent(load_inventory(args.inventory).device("local")) as agent:
        agent.hold()
        scene = _scene(args, agent)
        for target in args.targets:
            for seed in range(args.seeds):
                _judge_ours(scene, results, args.runs, runs[target, seed], target, seed)
            limit = SLACK * max(target, _latency(_nets(results, OURS, target)))
            for method, make in _methods(scene, args.peers).items():
                _judge_theirs(scene, results, method, make, target, limit, args.seeds)
        unpruned = accuracy(scene.base, scene.data.test)
    _print(args, results, unpruned, len(scene.data.test))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", type=float, default=[0.5, 0.7], help="shares of the base's latency")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60, help="of each pipeline run")
    parser.add_argument("--inventory", type=Path, help="whose device `local` says how long to measure")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--run", nargs="+", default=[], help="finished runs to take; each says its target and seed")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="all of Torch-Pruning's")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=Path("against_torch_pruning.jsonl"))
    return parser.parse_args()


def _run(args: argparse.Namespace, results: Results, target: float, seed: int) -> str:
    """Return the id of the run for a target and seed: known, given, or made now."""
    known = results.find(what="run", target=target, seed=seed)
    if known is not None:
        return str(known["run"])
    wanted = f"latency={target:g}x"
    for name in args.run:
        with Store.open(args.runs, name) as store:
            config = RunConfig.model_validate(store.get(CONFIG))
        if (config.model, config.seed, config.target) == (args.model, seed, (wanted,)):
            return str(results.append(what="run", target=target, seed=seed, run=store.id)["run"])
    options = {
        "data": args.data, "model": args.model, "weights": args.weights, "target": wanted, "trials": args.trials,
        "seed": seed, "runs": args.runs, "epochs": 0,
    }  # fmt: skip
    if args.inventory:
        options["inventory"] = args.inventory
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "pipeline", "run", *arguments], check=True)
    return str(results.append(what="run", target=target, seed=seed, run=Store.open(args.runs, "latest").id)["run"])


def _scene(args: argparse.Namespace, agent: Agent) -> Scene:
    data = load_data(args.data, seed=0)
    model = load_model(args.model, classes=len(data.classes), channels=data.shape[0], weights=args.weights)
    example = example_of(data.train)
    base = trace(model, example, classes=len(data.classes))
    weightless = skeleton(export(base, example, agent.onnx_support))
    return Scene(data=data, model=model, base=base, example=example, agent=agent, skeleton=weightless)


def _judge_ours(scene: Scene, results: Results, runs: Path, run: str, target: float, seed: int) -> None:
    """Cut the base by the plan that a run chose, and judge the net like all others; once more with layers fitted."""
    if results.find(what="net", method=FITTED, target=target, seed=seed):
        return
    with Store.open(runs, run) as store:
        plan = next(artifact.plan for artifact in store.artifacts() if artifact.chosen)
        space = space_of_round(store, 1)
    images = scene.data.train.batches(BATCH, limit=RANKING_IMAGES)
    ranking = rank(scene.base, space, plan.criterion, dependency_graph(scene.base, scene.example).groups, images)
    for method in (OURS, FITTED):
        net = prune(scene.base, space, plan.levels, ranking, scene.example)
        if method == FITTED:
            scene.fit(net, kept_channels(scene.base, surplus(space, plan.levels, ranking), scene.example))
        _note(results, method, target, seed, latency=scene.latency(net), **scene.retarget(net, seed))


def _methods(scene: Scene, peers: list[str]) -> dict[str, Make]:
    def theirs(name: str) -> Make:
        def make(ratio: float, seed: int) -> fx.GraphModule:
            images = some(scene.data.train, RANKING_IMAGES, seed).batches(BATCH)
            net = pruned(scene.model, scene.example, ratio, PEERS[name], images)
            return trace(net, scene.example, classes=len(scene.data.classes))

        return make

    return {UNIFORM: _uniform(scene), **{f"Torch-Pruning, {name}": theirs(name) for name in peers}}


def _uniform(scene: Scene) -> Make:
    space = search_space(scene.base, scene.example, step=1)
    ranking = rank(scene.base, space, "l1", dependency_graph(scene.base, scene.example).groups, [])

    def make(ratio: float, _: int) -> fx.GraphModule:
        kept = {g.name: g.width * max(1, round((1 - ratio) * g.units)) for g in space.groups}
        return cut(scene.base, space, kept, ranking, scene.example)

    return make


def _judge_theirs(
    scene: Scene, results: Results, method: str, make: Make, target: float, limit: float, seeds: int
) -> None:
    found = results.find(what="ratio", method=method, target=target) or _bisected(
        scene, results, method, make, target, limit
    )
    if found["ratio"] is None:
        return
    for seed in range(seeds):
        if not results.find(what="net", method=method, target=target, seed=seed):
            judged = scene.retarget(make(found["ratio"], seed), seed)
            _note(results, method, target, seed, latency=found["latency"], **judged)


def _bisected(scene: Scene, results: Results, method: str, make: Make, target: float, limit: float) -> Row:
    """Note the least ratio found whose net is fast enough; None and the fastest net's latency where none is."""
    low, high, best = 0.0, DEEPEST, None
    fastest = latency = scene.latency(make(high, 0))
    if latency <= limit:
        best = (high, latency)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        latency = scene.latency(make(middle, 0))
        print(f"  {method}, target {target:g}x: ratio {middle:.3f} → {latency:.3f}x", file=sys.stderr, flush=True)
        fastest = min(fastest, latency)
        if latency <= limit:
            high, best = middle, (middle, latency)
        else:
            low = middle
    ratio, latency = best or (None, fastest)
    return results.append(what="ratio", method=method, target=target, ratio=ratio, latency=latency)


def _note(results: Results, method: str, target: float, seed: int, **figures: Any) -> None:
    row = results.append(what="net", method=method, target=target, seed=seed, **figures)
    print(
        f"{method}, target {target:g}x, seed {seed}: {row['latency']:.3f}x, {row['before']:.2%} → {row['after']:.2%}",
        flush=True,
    )


def _nets(results: Results, method: str, target: float) -> list[Row]:
    rows = (row for row in results.rows() if row["what"] == "net")
    return [row for row in rows if (row["method"], row["target"]) == (method, target)]


def _latency(rows: list[Row]) -> float:
    return statistics.mean(float(row["latency"]) for row in rows)


def _print(args: argparse.Namespace, results: Results, unpruned: float, images: int) -> None:
    print(f"\n{args.model} on {args.data.partition(':')[0]}, unpruned {unpruned:.2%} on the test split")
    for target in args.targets:
        rows = [
            _line(results, method, target)
            for method in (OURS, FITTED, UNIFORM, *(f"Torch-Pruning, {n}" for n in args.peers))
        ]
        print(f"\ntarget latency={target:g}x")
        print(table(["", "latency", "MACs", "test before, %", "test after, %", "seeds"], rows))
    print(f"\n±: standard error over the seeds; all lines share, and no ± shows, {by_images(unpruned, images)}")
    print(
        f"if as accurate as the unpruned, up to {by_images(0.5, images)} at 50 %; a latency is measured once a network"
    )


def _line(results: Results, method: str, target: float) -> list[str]:
    rows = _nets(results, method, target)
    if not rows:
        found = results.find(what="ratio", method=method, target=target)
        fastest = f"not below {found['latency']:.3f}x at any ratio tried" if found else "not tried"
        return [method, fastest, "–", "–", "–", "0"]
    before, after = (mean([row[when] for row in rows], scale=100) for when in ("before", "after"))
    macs = mean([row["macs"] for row in rows], digits=3).partition(" ")[0]
    return [method, f"{_latency(rows):.3f}x", f"{macs}x", before, after, str(len(rows))]


if __name__ == "__main__":
    main()
