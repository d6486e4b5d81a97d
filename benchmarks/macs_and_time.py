"""How much time does a cut in MACs save? MobileNetV2 at 224 pixels: Torch-Pruning's nets beside one planned by time.

    python benchmarks/macs_and_time.py [--macs 0.46 --target 0.5]

Torch-Pruning cuts by global magnitude to the given share of the MACs, once with whatever widths come out and once with
widths rounded to 16. The other net's levels are picked by time alone: eight times over, of 1000 random plans that the
cost model (single cuts measured on this machine) predicts to meet the target, the one that keeps most is measured, and
the cost model learns from it as in a run; of those that meet the target as measured, the one with most MACs stays.
Latency is the median over the base model's, taking turns with it, measured anew for the table; weights and images are
random: no layer's time depends on them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _common.examples import example_of
from _common.results import Results, mean, table
from _common.testbed import Testbed, opened
from _common.torch_pruning_peers import PEERS, pruned
from torch import Tensor, fx, nn
from torch.utils.data import TensorDataset

from pipeline.config import EvaluationConfig, RunConfig
from pipeline.export.onnx.exporter import export
from pipeline.models import load_model
from pipeline.pruning.complexity import weigh
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import PruningPlan
from pipeline.search.planner import Indices, Planner, indices
from pipeline.search.random_plans import draw

HALVINGS = 9
ROUNDS = 8
DRAWN = 1000
ROUNDED = 16
LONGER_S = 2.0


def noise() -> TensorDataset:
    """Return images that show nothing, in as many classes as splits need."""
    drawn = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(64, 3, 224, 224, generator=drawn), torch.arange(64) % 4)


def main() -> None:
    args = _arguments()
    config = RunConfig(
        data=f"dataset:{Path(__file__).resolve()}:noise", model=args.model, threads=args.threads,
        evaluation=EvaluationConfig(search_images=10),
    )  # fmt: skip
    names = ("model", "macs", "target", "repeats")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    with opened(config, args.cache, "measured", args.inventory) as bed:
        for name, make in _nets(bed, args).items():
            if not results.find(net=name):
                net = make()
                macs = weigh(net, bed.context.example).macs / bed.builder.space.macs
                latencies = [_latency(bed, net) for _ in range(args.repeats)]
                results.append(net=name, macs=macs, latency=latencies)
                print(f"  {name}: {macs:.3f}x MACs, {latencies[0]:.3f}x latency", flush=True)
        base, cpu = bed.base.figures.measurement, bed.context.agent.facts.cpu
        print(f"\n{args.model} at 224 pixels on {cpu}, batch 1, {base.threads} thread(s): {base.p50_ms.value:.2f} ms\n")
        rows = [results.find(net=name) for name in _nets(bed, args)]
    lines = [[r["net"], f"{r['macs']:.3f}x", mean(r["latency"], digits=3, unit="x")] for r in rows if r]
    print(table(["", "MACs", f"latency, {args.repeats} times"], lines))
    print("±: standard error over the measurements, each in a process of its own; all on one machine in one session")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--macs", type=float, default=0.46, help="share that Torch-Pruning leaves")
    parser.add_argument("--target", type=float, default=0.5, help="share of the base's latency for the planned net")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inventory", type=Path, help="whose device `local` says how long to measure")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="folder of what was measured once")
    parser.add_argument("--out", type=Path, default=Path("macs_and_time.jsonl"))
    return parser.parse_args()


def _nets(bed: Testbed, args: argparse.Namespace) -> dict[str, Callable[[], fx.GraphModule]]:
    return {
        "Torch-Pruning, global magnitude": lambda: _at_macs(bed, args, None),
        f"the same, rounded to {ROUNDED}": lambda: _at_macs(bed, args, ROUNDED),
        f"levels by the cost model, {args.target:g}x": lambda: _planned(bed, args.target),
    }


def _at_macs(bed: Testbed, args: argparse.Namespace, round_to: int | None) -> fx.GraphModule:
    """Return Torch-Pruning's net at the least ratio whose MACs are no more than asked."""
    torch.manual_seed(0)
    classes, example = len(bed.context.data.classes), example_of(bed.context.data.train, 1)
    model: nn.Module = load_model(args.model, classes=classes, channels=3, weights=None)
    low, high, best = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        net = trace(_cut(model, example, middle, round_to), example, classes=classes)
        if weigh(net, example).macs <= args.macs * bed.builder.space.macs:
            high, best = middle, net
        else:
            low = middle
    if best is None:
        raise SystemExit(f"Torch-Pruning leaves more than {args.macs:g} of the MACs at any ratio")
    return best


def _cut(model: nn.Module, example: Tensor, ratio: float, round_to: int | None) -> nn.Module:
    return pruned(model, example, ratio, PEERS["global magnitude"], round_to=round_to)


def _planned(bed: Testbed, target: float) -> fx.GraphModule:
    """Return the net with most MACs that meets the target as measured, of those that the cost model came to."""
    problem, rng = bed.problem({"latency": target}), np.random.default_rng(0)
    planner = Planner(problem)
    met: list[tuple[int, fx.GraphModule]] = []
    for _ in range(ROUNDS):
        plan = _most_kept(planner, draw(planner, DRAWN, rng))
        net = prune(bed.builder.base, problem.space, plan.levels, bed.builder.ranking, bed.builder.example)
        share = _latency(bed, net)
        problem.costs.learn(indices(plan), {"latency": share})
        print(f"  planned for {target:g}x: {share:.3f}x", file=sys.stderr, flush=True)
        if share <= target:
            met.append((weigh(net, bed.context.example).macs, net))
    if not met:
        raise SystemExit(f"none of {ROUNDS} plans took {target:g} of the time or less")
    return max(met, key=lambda found: found[0])[1]


def _most_kept(planner: Planner, plans: Indices) -> PruningPlan:
    """Return the plan that keeps most, of those predicted to meet the target; of none, the nearest to it."""
    groups, excess = planner.problem.space.groups, planner.excess(plans)
    meeting = plans[excess <= max(0.0, float(excess.min()))]
    candidates = [planner.plan(plan) for plan in meeting]
    kept = [planner.problem.space.kept(plan.levels) for plan in candidates]
    macs = [sum(k / g.channels * g.macs for k, g in zip(row, groups, strict=True)) for row in kept]
    return candidates[int(np.argmax(macs))]


def _latency(bed: Testbed, net: fx.GraphModule) -> float:
    agent = bed.context.agent
    file = export(net, bed.context.example, agent.onnx_support)
    settings = replace(agent.device.measure, min_s=LONGER_S)
    found = agent.measure(file, "onnx", reference=(bed.base.skeleton, "skeleton"), settings=settings)
    assert found.ratio is not None
    return found.ratio.value


if __name__ == "__main__":
    main()
