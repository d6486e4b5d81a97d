"""Held-out plans on a real device: how near does the cost model come, and how often do its intervals hold them?

    python benchmarks/cost_model.py [--device NAME] [--model resnet20] [--image 3 32 32] [--step 8] [--plans 80]

Single cuts are measured as a run measures them, then random plans from hardly to deeply cut. Each row: the model knows
the single cuts and so many of the plans, drawn anew each time, and predicts the others. Beside it what MACs tell, and
what the straight line alone would say. Measurements carry an error of their own, which the table's last line tells.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.evaluation.cut_profiling import CutProfile, cost_tables, single_cuts
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.skeleton import skeleton
from pipeline.models import load_model
from pipeline.predictors.cost_model import CostTable
from pipeline.pruning.complexity import weigh
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import LEVELS, Measurement, SearchSpace
from pipeline.run.channel_step import without_plateaus

Array = NDArray[np.float64]
Levels = tuple[int, ...]

T = TypeVar("T")

DRAWS = 20


def main() -> None:
    args = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    example = torch.randn(2, *args.image)
    network = trace(load_model(args.model, classes=10, channels=args.image[0], weights=None), example)
    with open_agent(load_inventory(args.inventory).device(args.device)) as agent:
        agent.hold()
        space = search_space(network, example, step=args.step or agent.channel_step)
        ranking = rank(network, space, "l1", dependency_graph(network, example).groups, [])
        weightless = skeleton(export(network, example, agent.onnx_support))

        def measured(levels: Levels) -> tuple[Measurement, float]:
            narrow = prune(network, space, levels, ranking, example)
            model = skeleton(export(narrow, example, agent.onnx_support))
            return agent.measure(model, "skeleton", reference=(weightless, "skeleton")), weigh(narrow, example).macs

        cuts = {kind: measured(levels)[0] for kind, levels in _shown(single_cuts(space).items(), "single cuts")}
        shaped = without_plateaus(space, CutProfile(cuts))
        plans = _random_plans(shaped, args.plans, args.seed)
        found = [(levels, *measured(levels)) for levels in _shown(plans, "plans")]
    _report(shaped, CutProfile(cuts), found, f"{args.model} on {args.device}, channels in steps of {space.step}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--image", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument("--step", type=int, help="kept channels' step; left out: what the processor's vectors suggest")
    parser.add_argument("--plans", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _shown(items: Collection[T], what: str) -> Iterable[T]:
    return track(items, what, console=Console(stderr=True), transient=True)


def _random_plans(space: SearchSpace, count: int, seed: int) -> list[Levels]:
    """Return different plans; in each, another share of the groups is cut, each by any of its levels."""
    rng = np.random.default_rng(seed)
    plans: dict[str, Levels] = {}
    for _ in range(100 * count):
        share = rng.uniform(0.3, 1.0)
        levels = tuple(int(rng.choice(g.levels)) if rng.random() < share else 0 for g in space.groups)
        plans.setdefault(space.key(levels), levels)
        if len(plans) == count:
            break
    return list(plans.values())


def _report(space: SearchSpace, cuts: CutProfile, found: list[tuple[Levels, Measurement, float]], title: str) -> None:
    plans = np.array([[LEVELS.index(level) for level in levels] for levels, *_ in found])
    ratios = [measurement.ratio for _, measurement, _ in found if measurement.ratio is not None]
    measured, macs = np.array([ratio.value for ratio in ratios]), np.array([macs for *_, macs in found])
    table = Table("plans known", "MAPE", "Spearman", "within 95 %", "MAPE of the line", title=title, box=None)
    for known in (0, 10, 20, 40):
        if known < len(plans) - 10:
            rows = [_draw(space, cuts, plans, measured, known, seed) for seed in range(DRAWS if known else 1)]
            mape, rank_, held, line = np.mean(rows, 0)
            table.add_row(str(known), f"{mape:.1%}", f"{rank_:.3f}", f"{held:.1%}", f"{line:.1%}")
    Console(width=120).print(table)
    noise = np.median([ratio.half_width / ratio.value for ratio in ratios])
    flagged = sum(bool(measurement.flags) for _, measurement, _ in found)
    print(
        f"MACs alone: Spearman {_rank(macs, measured):.3f}; {len(plans)} plans from {measured.min():.2f}x to ", end=""
    )
    print(f"{measured.max():.2f}x, each measured to ±{noise:.1%} by its own interval, {flagged} of them flagged")


def _draw(
    space: SearchSpace, cuts: CutProfile, plans: NDArray[np.int64], measured: Array, known: int, seed: int
) -> tuple[float, float, float, float]:
    table: CostTable = cost_tables(space, cuts).tables["latency"]
    order = np.random.default_rng(seed).permutation(len(plans))
    for i in order[:known]:
        table.learn(plans[i].tolist(), measured[i])
    held, true = plans[order[known:]], measured[order[known:]]
    low, high = table.interval(held)
    predicted, by_line = table.predict(held), table.cost(table.taken(held))
    within = float(np.mean((low <= true) & (true <= high)))
    return _mape(predicted, true), _rank(predicted, true), within, _mape(by_line, true)


def _mape(predicted: Array, true: Array) -> float:
    return float(np.mean(np.abs(predicted / true - 1)))


def _rank(one: Array, other: Array) -> float:
    return float(spearmanr(one, other).statistic)


if __name__ == "__main__":
    main()
