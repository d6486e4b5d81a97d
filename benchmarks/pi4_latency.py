"""A real Raspberry Pi 4's latencies of 15,341 networks: how well does the cost model's process tell those it never saw?

    python benchmarks/pi4_latency.py --data nasbench201_cifar10_raspi4.csv.gz [--known 60] [--draws 10]

The file holds the CIFAR-10 networks of NAS-Bench-201 (Dong and Yang, 2020) as HW-NAS-Bench (Li et al., 2021) measured
them: `index, architecture, latency_ms`, gzipped or not. A cell's features are how many operations of each kind lead to
its output. Those that end in a node that nothing reads are not computed; those that read a node of zeros are, at their
full price: one 3×3 convolution is worth 18 ms alone and 36 ms beside one that convolves zeros. Networks under 2 ms,
whose output is nothing at all, are left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from pipeline.measurement.intervals import NORMAL_95
from pipeline.predictors.gaussian_process import CostProcess, Scales

Array = NDArray[np.float64]

OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DEAD_MS = 2.0
OUTPUT = 3
PRIOR = Scales(linear=0.5, smooth=0.5, noise=0.2)
"""In standard deviations of the known latencies; features in their own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--known", type=int, nargs="+", default=[20, 60, 200])
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    features, latency_ms = _read(args.data)
    title = f"{len(latency_ms):,} networks on a Raspberry Pi 4, mean (lowest … highest) of {args.draws} draws"
    table = Table("known", "Spearman", "median error", "within the 95 % interval", title=title, box=None)
    for known in args.known:
        draws = np.array([_draw(features, latency_ms, known, seed) for seed in range(args.draws)])
        table.add_row(str(known), *(_shown(column) for column in draws.T))
    Console(width=120).print(table)


def _read(path: Path) -> tuple[Array, Array]:
    """Return features, (networks, operations), and latencies in ms, (networks,)."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["latency_ms"]) >= DEAD_MS]
    features = [_counts(row["architecture"]) for row in rows]
    return np.array(features, dtype=float), np.array([float(row["latency_ms"]) for row in rows])


def _counts(architecture: str) -> list[int]:
    """Return how many operations of each kind lead to a cell's output.

    >>> _counts("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|skip_connect~1|none~2|")
    [1, 0, 2, 0]
    """
    edges = [
        (int(source), node, operation)
        for node, joined in enumerate(architecture.strip("|").split("|+|"), 1)
        for operation, source in (edge.split("~") for edge in joined.split("|"))
        if operation != "none"
    ]
    read = {OUTPUT}
    for _ in range(OUTPUT):
        read |= {source for source, node, _ in edges if node in read}
    computed = [operation for _, node, operation in edges if node in read]
    return [computed.count(operation) for operation in OPERATIONS]


def _draw(features: Array, latency_ms: Array, known: int, seed: int) -> Sequence[float]:
    order = np.random.default_rng(seed).permutation(len(latency_ms))
    seen, held = order[:known], order[known:]
    centre, spread = features[seen].mean(0), features[seen].std(0)
    mean_ms, scale_ms = latency_ms[seen].mean(), latency_ms[seen].std()
    plans = (features - centre) / np.maximum(spread, 1e-9)
    process = CostProcess(PRIOR)
    process.fit(plans[seen], (latency_ms[seen] - mean_ms) / scale_ms)
    mean, deviation = process.predict(plans[held])
    predicted_ms, half_ms = mean * scale_ms + mean_ms, NORMAL_95 * deviation * scale_ms
    error_ms = np.abs(predicted_ms - latency_ms[held])
    return (
        float(spearmanr(predicted_ms, latency_ms[held]).statistic),
        float(np.median(error_ms / latency_ms[held])),
        float(np.mean(error_ms <= half_ms)),
    )


def _shown(values: Array) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} … {values.max():.3f})"


if __name__ == "__main__":
    main()
