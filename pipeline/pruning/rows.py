"""A layer as a matrix: what it reads and answers at some places of some images, and its weights, as rows.

Of convolutions of images, which read a patch at each place, and of linear layers, whose places are all that stands
before the last dimension.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


def is_matrix(module: nn.Module) -> TypeGuard[Layer]:
    """Return whether a module is a layer that can be read as a matrix here."""
    if type(module) is nn.Conv2d:
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
    height, width = values.shape[2:]
    columns = _outputs(width, layer, 1)
    rows, row_is_inside = _window(places // columns, height, layer, 0)
    sides, side_is_inside = _window(places % columns, width, layer, 1)
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


def _outputs(size: int, layer: nn.Conv2d, axis: int) -> int:
    """Return how many answers a convolution gives along an axis of so many inputs."""
    reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
    return (size + 2 * _padding(layer, axis) - reach) // layer.stride[axis] + 1


def _window(answers: Tensor, size: int, layer: nn.Conv2d, axis: int) -> tuple[Tensor, Tensor]:
    """Return for answers along an axis what the kernel lies on, (..., kernel), and whether that is within the image."""
    offsets = torch.arange(layer.kernel_size[axis]) * layer.dilation[axis] - _padding(layer, axis)
    inputs = (answers * layer.stride[axis])[..., None] + offsets
    return inputs.clamp(0, size - 1), (inputs >= 0) & (inputs < size)


def _padding(layer: nn.Conv2d, axis: int) -> int:
    padding = layer.padding[axis]
    assert isinstance(padding, int)  # is_matrix() has seen to it
    return padding
