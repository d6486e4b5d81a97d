"""A layer as a matrix: rows of what it reads times rows of its weights are what torch says that it answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.pruning.reconstruction.layer_matrix import Layer, as_weights, at, by_place, is_matrix, read, weights_of

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = {
    "3 x 3": nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "1 x 1": nn.Conv2d(4, 6, 1, bias=False),
    "stride, no padding": nn.Conv2d(4, 6, 3, stride=2, bias=False),
    "uneven": nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1), bias=False),
    "groups": nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False),
    "depthwise": nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
}
OF_SIGNALS = {
    "3": nn.Conv1d(4, 6, 3, padding=1, bias=False),
    "1": nn.Conv1d(4, 6, 1, bias=False),
    "stride, no padding": nn.Conv1d(4, 6, 5, stride=3, bias=False),
    "dilation": nn.Conv1d(4, 6, 3, padding=2, dilation=2, bias=False),
    "depthwise": nn.Conv1d(4, 8, 3, padding=1, groups=4, bias=False),
}
IMAGES = torch.randn(3, 4, 9, 7, generator=torch.Generator().manual_seed(0))


def same(layer: Layer, values: torch.Tensor) -> None:
    with torch.no_grad():
        answers = by_place(layer(values), layer)
        places = torch.randint(answers.shape[1], (3, 11), generator=torch.Generator().manual_seed(1))
        rows = read(values, layer, places) @ weights_of(layer).mT
    torch.testing.assert_close(rows.transpose(0, 1).flatten(1), at(answers, places))


@pytest.mark.parametrize("name", LAYERS)
def test_rows_give_what_a_convolution_answers(name: str) -> None:
    same(LAYERS[name], IMAGES)
    same(LAYERS[name], IMAGES.to(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_rows_give_what_a_convolution_of_signals_answers(name: str) -> None:
    same(OF_SIGNALS[name], IMAGES.flatten(2))


@pytest.mark.parametrize("shape", [(3, 5), (3, 9, 5), (3, 2, 4, 5)])
def test_rows_give_what_a_linear_layer_answers(shape: tuple[int, ...]) -> None:
    same(nn.Linear(5, 7, bias=False), torch.randn(shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("layer", [*LAYERS.values(), *OF_SIGNALS.values(), nn.Linear(5, 7)])
def test_rows_become_weights_again(layer: Layer) -> None:
    assert torch.equal(as_weights(weights_of(layer), layer), layer.weight)


def test_only_plain_layers_are_matrices() -> None:
    assert all(is_matrix(layer) for layer in [*LAYERS.values(), *OF_SIGNALS.values()])
    assert is_matrix(nn.Linear(2, 2))
    others = [
        nn.Conv2d(2, 2, 3, padding="same"), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Conv3d(2, 2, 3),
        nn.ConvTranspose2d(2, 2, 3), nn.BatchNorm2d(2), nn.Bilinear(2, 2, 2),
    ]  # fmt: skip
    assert not any(is_matrix(layer) for layer in others)
