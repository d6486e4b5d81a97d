"""Padded shortcuts become convolutions that answer the same; what only looks like one is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.export.onnx.padded_shortcuts import with_convolutions
from pipeline.models.cifar_resnet import CifarResNet

X = torch.randn(2, 4, 7, 6, generator=torch.Generator().manual_seed(0))
IMAGE = tuple(X.shape[1:])


class Shortcut(nn.Module):
    def __init__(self, taken: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.taken = taken

    def forward(self, x: Tensor) -> Tensor:
        return self.taken(x)


def convolutions(network: fx.GraphModule) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("taken", "stride", "width"),
    [
        (lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3)), (2, 2), 8),
        (lambda x: functional.pad(x[:, :, ::2, ::3], (0, 0, 0, 0, 0, 4), "constant", 0), (2, 3), 8),
        (lambda x: functional.pad(x.relu()[:, :, :, 0::2], pad=[0, 0, 0, 0, 2, 2], value=0.0), (1, 2), 8),
    ],
)
def test_it_answers_the_same_to_the_bit(taken: Callable[[Tensor], Tensor], stride: tuple[int, int], width: int) -> None:
    network = fx.symbolic_trace(Shortcut(taken).eval())
    lowered = with_convolutions(network, torch.zeros(1, *IMAGE))
    (layer,) = convolutions(lowered)
    assert (layer.stride, layer.out_channels, layer.kernel_size) == (stride, width, (1, 1))
    assert not any(node.target is functional.pad for node in lowered.graph.nodes)
    assert torch.equal(lowered(X), network(X))
    assert not convolutions(network)


@pytest.mark.parametrize(
    "taken",
    [
        lambda x: functional.pad(x[:, :, ::2, ::2], (1, 1, 0, 0, 1, 1)),
        lambda x: functional.pad(x, (1, 1)),
        lambda x: functional.pad(x, (0, 0, 0, 0, 2, 2)),
        lambda x: functional.pad(x[:, 1:, ::2, ::2], (0, 0, 0, 0, 2, 2)),
        lambda x: functional.pad(x[:, :, ::2], (0, 0, 0, 0, 2, 2)),
        lambda x: functional.pad(x, (0, 0, 0, 0, 2, 2), value=1.0),
        lambda x: functional.pad(x, (0, 0, 0, 0, 2, -1)),
        lambda x: functional.pad(x[:, 0], (0, 0, 0, 0, 1, 1)),
    ],
)
def test_other_paddings_are_left_alone(taken: Callable[[Tensor], Tensor]) -> None:
    network = fx.symbolic_trace(Shortcut(taken).eval())
    lowered = with_convolutions(network, torch.zeros(1, *IMAGE))
    assert not convolutions(lowered)
    assert torch.equal(lowered(X), network(X))


def test_a_slice_that_others_read_too_is_left_alone() -> None:
    def taken(x: Tensor) -> Tensor:
        picked = x[:, :, ::2, ::2]
        return functional.pad(picked, (0, 0, 0, 0, 1, 1)).sum(1) + picked.sum(1)

    network = fx.symbolic_trace(Shortcut(taken).eval())
    assert with_convolutions(network, torch.zeros(1, *IMAGE)) is network


def test_a_cifar_resnet_has_one_for_each_wider_stage_and_shares_its_weights() -> None:
    network = fx.symbolic_trace(CifarResNet(20, classes=10, channels=3).eval())
    lowered = with_convolutions(network, torch.zeros(1, 3, 32, 32))
    images = torch.randn(2, 3, 32, 32)
    assert len(convolutions(lowered)) == len(convolutions(network)) + 2
    torch.testing.assert_close(lowered(images), network(images), rtol=0, atol=0)
    assert lowered.get_parameter("conv1.weight") is network.get_parameter("conv1.weight")


def test_a_network_without_is_returned_itself() -> None:
    network = fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU()))
    assert with_convolutions(network, torch.zeros(1, *IMAGE)) is network
