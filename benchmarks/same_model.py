"""A/A: one model measured many times as if it were as many candidates; how many pairs are called different?

    python benchmarks/same_model.py [--device NAME] [--inventory FILE] [--model resnet20] [--times 20]

Each measurement is what a candidate of a search gets: a process of its own, the base model's skeleton in turns beside
it, the device's own settings. At the 5 % level about one pair in twenty should differ, although nothing does.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.skeleton import skeleton
from pipeline.measurement.intervals import differ
from pipeline.models import load_model
from pipeline.pruning.trace import trace
from pipeline.records import Interval, Measurement

FIGURES: dict[str, Callable[[Measurement], Interval | None]] = {
    "latency over the base's (what the search uses)": lambda m: m.ratio,
    "latency in ms": lambda m: m.p50_ms,
    "energy in mJ": lambda m: m.power and m.power.energy_total_mj,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--image", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument("--times", type=int, default=20)
    told = parser.parse_args()
    torch.manual_seed(0)
    example = torch.randn(2, *told.image)
    network = trace(load_model(told.model, classes=10, channels=told.image[0], weights=None), example)
    with open_agent(load_inventory(told.inventory).device(told.device)) as agent:
        agent.hold()
        probe = skeleton(export(network, example, agent.limits))
        found = [
            agent.measure(probe, "skeleton", reference=(probe, "skeleton"))
            for _ in track(
                range(told.times), f"measuring on {told.device}", console=Console(stderr=True), transient=True
            )
        ]
    table = Table("figure", "mean", "spread of the measurements", "their own ±95 %", "pairs called different", box=None)
    for name, figure in FIGURES.items():
        intervals = [interval for interval in map(figure, found) if interval is not None]
        if intervals:
            table.add_row(name, *_row(intervals))
    Console(width=140).print(table)
    flagged = sum(bool(m.flags) for m in found)
    Console().print(f"{told.model} on {told.device}, {told.times} measurements, {flagged} of them flagged", style="dim")


def _row(intervals: list[Interval]) -> tuple[str, ...]:
    values = np.array([interval.value for interval in intervals])
    pairs = [differ(one, other) for one, other in itertools.combinations(intervals, 2)]
    return (
        f"{values.mean():.4f}",
        f"±{1.96 * values.std(ddof=1) / values.mean():.2%}",
        f"±{np.median([interval.half_width for interval in intervals]) / values.mean():.2%}",
        f"{sum(pairs)} of {len(pairs)} ({np.mean(pairs):.1%})",
    )


if __name__ == "__main__":
    main()
