"""What is brought fits together: which tensors are signals is the network's to say."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.inputs import load_inputs

SOURCE = """
    import torch
    from torch import nn


    class Net(nn.Sequential):
        def __init__(self, kind, pool, channels, classes):
            super().__init__(kind(channels, 8, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, classes))

    def of_signals(num_classes, in_channels): return Net(nn.Conv1d, nn.AdaptiveAvgPool1d, in_channels, num_classes)
    def of_images(num_classes, in_channels): return Net(nn.Conv2d, nn.AdaptiveAvgPool2d, in_channels, num_classes)
    def of_two(num_classes=2): return Net(nn.Conv1d, nn.AdaptiveAvgPool1d, 6, num_classes)
    def of_neither(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, num_classes))

    SIZE = 24 * 24

    def of(*shape, offset=0.0):
        return [(torch.rand(shape) + offset, i % 2) for i in torch.arange(24).tolist()]

    torch.manual_seed(0)
    SQUARE, LONG, ROW, FAR = of(24, 24), of(6, 96), of(1, 576), of(24, 24, offset=50.0)
"""


@pytest.mark.parametrize(
    ("model", "data", "shape"),
    [
        ("of_signals", "SQUARE", (24, 24)),
        ("of_signals", "FAR", (24, 24)),
        ("of_signals", "LONG", (6, 96)),
        ("of_signals", "ROW", (1, 576)),
        ("of_two", "LONG", (6, 96)),
        ("of_images", "SQUARE", (1, 24, 24)),
        ("of_images", "LONG", (1, 6, 96)),
        ("of_images", "ROW", (1, 1, 576)),
        ("of_neither", "SQUARE", (1, 24, 24)),
        ("of_neither", "ROW", (1, 576)),
    ],
)
def test_a_network_of_conv1d_takes_two_dimensions_as_signals_and_one_of_conv2d_as_grey_images(
    tmp_path: Path, model: str, data: str, shape: tuple[int, ...]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(SOURCE))
    inputs = load_inputs(RunConfig(model=f"{file}:{model}", data=f"dataset:{file}:{data}", threads=1))
    assert inputs.data.shape == tuple(inputs.example.shape[1:]) == shape
