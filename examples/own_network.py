"""Prune a network of your own on this machine, write the bundle, load the pruned network back.

    python examples/own_network.py [FOLDER]

With a board in the inventory: ``device="pi4"``. With your weights and pictures: ``weights="net.pt"``,
``data="imagefolder:photos"``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import pipeline


def make(classes: int, channels: int) -> nn.Module:
    """Return a small network for 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


def main(folder: Path) -> None:
    """Prune it, and show that what was pulled answers."""
    run = pipeline.prune(
        model=f"{Path(__file__).resolve()}:make", data="digits", target="latency=0.8x", trials=8, runs=folder / "runs"
    )
    chosen = next(artifact for artifact in run.artifacts() if artifact.chosen)
    ratio = chosen.after.measurement.ratio
    print(f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] of the time, {chosen.after.test_accuracy:.1%} right")
    pipeline.pull(run.id, folder / "my-model", runs=folder / "runs")
    network = pipeline.load_pruned(folder / "my-model", make(classes=10, channels=1))
    print("answers of the pruned network:", tuple(network(torch.zeros(1, 1, 8, 8)).shape))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example"))
