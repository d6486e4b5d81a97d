"""A layer as a matrix: what it reads and answers at some places of some images, and its weights, as rows.

Of convolutions, which read a patch at each place of an image or a signal, and of linear layers, whose places are all
that stands before the last dimension. A signal is an image of one row.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d
Layer = Convolution | nn.Linear


def is_matrix(module: nn.Module) -> TypeGuard[Layer]:
    """Return whether a module is a layer that can be read as a matrix here."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d)) and type(module) in (nn.Conv1d, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def by_place(values: Tensor, layer: Layer) -> Tensor:
    """Return values that lie as a layer's answers do, (images, places, channels)."""
    if isinstance(layer, nn.Linear):
        return values.reshape(len(values), -1, values.shape[-1])
    return values.flatten(2).mT


def at(values: Tensor, places: Tensor) -> Tensor:
    """Return values, (images, places, channels), at some places of each image, (images · places, channels)."""
    return values[torch.arange(len(values))[:, None], places].flatten(0, 1)


def read(values: Tensor, layer: Layer, places: Tensor) -> Tensor:
    """Return what a layer reads of its input for its answers at some places, (groups, images · places, inputs)."""
    if isinstance(layer, nn.Linear):
        return at(by_place(values, layer), places)[None]
    if isinstance(layer, nn.Conv1d):
        values = values[:, :, None]
    height, width = values.shape[2:]
    columns = _outputs(width, layer, -1)
    rows, row_is_inside = _window(places // columns, height, layer, -2)
    sides, side_is_inside = _window(places % columns, width, layer, -1)
    image = torch.arange(len(values)).reshape(-1, 1, 1, 1)
    patches = values.permute(0, 2, 3, 1)[image, rows[..., :, None], sides[..., None, :]]
    patches = patches * (row_is_inside[..., :, None] & side_is_inside[..., None, :])[..., None]
    kernel = patches.shape[2] * patches.shape[3]
    return patches.reshape(places.numel(), kernel, layer.groups, -1).permute(2, 0, 1, 3).flatten(2)


def weights_of(layer: Layer) -> Tensor:
    """Return a layer's weights in the order in which ``read`` returns inputs, (groups, outputs, inputs)."""
    weights = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weights[None]
    return weights.flatten(2).mT.reshape(layer.groups, layer.out_channels // layer.groups, -1)


def as_weights(rows: Tensor, layer: Layer) -> Tensor:
    """Return rows, (groups, outputs, inputs), as the layer holds its weights: the inverse of ``weights_of``."""
    if isinstance(layer, nn.Linear):
        return rows[0]
    outputs, inputs, *kernel = layer.weight.shape
    return rows.reshape(outputs, -1, inputs).mT.reshape(outputs, inputs, *kernel)


def _outputs(size: int, layer: Convolution, axis: int) -> int:
    """Return how many answers a convolution gives along an axis, counted from the last, of so many inputs."""
    kernel, stride, padding, dilation = _along(layer, axis)
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _window(answers: Tensor, size: int, layer: Convolution, axis: int) -> tuple[Tensor, Tensor]:
    """Return for answers along an axis what the kernel lies on, (..., kernel), and whether that is within the image."""
    kernel, stride, padding, dilation = _along(layer, axis)
    inputs = (answers * stride)[..., None] + torch.arange(kernel) * dilation - padding
    return inputs.clamp(0, size - 1), (inputs >= 0) & (inputs < size)


def _along(layer: Convolution, axis: int) -> tuple[int, int, int, int]:
    """Return kernel, stride, padding and dilation along an axis; of a signal's one row a kernel of 1."""
    if -axis > len(layer.kernel_size):
        return 1, 1, 0, 1
    padding = layer.padding[axis]
    assert isinstance(padding, int)  # is_matrix() has seen to it
    return layer.kernel_size[axis], layer.stride[axis], padding, layer.dilation[axis]
