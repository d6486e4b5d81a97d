"""Operators that move values: the number of images, one in most files, stays open."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.models.onnx_import.graph_builder import Constant, GraphBuilder, Made
from pipeline.models.onnx_import.operator_call import Call, UnfitError

_END = 2**31 - 1
"""From here on a slice has no end: exporters write the largest of 32 or 64 bits."""


def reshape(call: Call) -> Made:
    """Reshape."""
    value, sizes = call.tensor(0), call.integers("shape", 1) or []
    if not call.attribute("allowzero", 0):
        sizes = [value.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return _reshaped(call, value, tuple(value.value.reshape(sizes).shape))


def flatten(call: Call) -> Made:
    """Flatten to two dimensions."""
    value = call.tensor(0)
    axis = int(call.attribute("axis", 1))
    axis = axis + len(value.shape) if axis < 0 else axis
    first = int(np.prod(value.shape[:axis], dtype=np.int64))
    return _reshaped(call, value, tuple(value.value.reshape(first, -1).shape))


def transpose(call: Call) -> Made:
    """Transpose."""
    value = call.tensor(0)
    order = call.attribute("perm") or range(len(value.shape) - 1, -1, -1)
    return call.build.method("permute", value, [int(dim) for dim in order])


def squeeze(call: Call) -> Made:
    """Squeeze; where it does not say which dimensions, all of size one but the images."""
    value, axes = call.tensor(0), call.integers("axes", 1)
    dims = len(value.shape)
    if axes is None:
        axes = [dim for dim in range(1, dims) if value.shape[dim] == 1]
    along = tuple(sorted(axis % dims for axis in axes))
    if any(call.is_of_images(value, dim) for dim in along):
        raise UnfitError("it takes away the dimension of the images")
    return call.build.function(torch.squeeze, value, along)


def unsqueeze(call: Call) -> Made:
    """Unsqueeze."""
    value, axes = call.tensor(0), call.integers("axes", 1) or []
    dims = len(value.shape) + len(axes)
    for axis in sorted(axis % dims for axis in axes):
        value = call.build.function(torch.unsqueeze, value, axis)
    return value


def concatenate(call: Call) -> Made:
    """Concat; a constant beside values of the image is repeated for each image."""
    rank = max(len(v.shape) for v in call.inputs if v is not None)
    axis = int(call.attribute("axis", 1)) % rank
    if axis == 0:
        raise UnfitError("it lays images behind each other")
    images = call.build.images(next(value for value in call.inputs if isinstance(value, Made)))
    parts = []
    for place, value in enumerate(call.inputs):
        part = call.tensor(place)
        if isinstance(value, np.ndarray):
            part = call.build.method("expand", part, [images, *(-1 for _ in value.shape[1:])])
        parts.append(part)
    return call.build.function(torch.cat, parts, axis)


def split(call: Call) -> tuple[Made, ...]:
    """Split along one dimension."""
    value = call.tensor(0)
    axis = int(call.attribute("axis", 0)) % len(value.shape)
    if call.is_of_images(value, axis):
        raise UnfitError("it takes images apart")
    count, size = len(call.node.outputs), value.shape[axis]
    even = -(-size // count)
    sizes = call.integers("split", 1) or [min(even, size - i * even) for i in range(count)]
    parts = call.build.function(torch.split, value, sizes, axis)
    return tuple(call.build.function(operator.getitem, parts, i) for i in range(count))


def slices(call: Call) -> Made:
    """Slice."""
    value = call.tensor(0)
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes, steps = call.integers("axes", 3) or list(range(len(starts))), call.optional(4)
    strides = [1] * len(starts) if steps is None else [int(step) for step in steps]
    index = [slice(None)] * len(value.shape)
    for axis, start, end, step in zip(axes, starts, ends, strides, strict=True):
        dim = axis % len(index)
        if step < 1:
            raise UnfitError("it reverses the order")
        index[dim] = _part(start, end, step, value.shape[dim])
    if index[0] != slice(None) and call.is_of_images(value, 0):
        raise UnfitError("it picks some of the images")
    while index and index[-1] == slice(None):
        index.pop()
    return call.build.function(operator.getitem, value, tuple(index)) if index else value


def gather(call: Call) -> Made:
    """Gather at places that are known."""
    value, places = call.tensor(0), call.constant(1)
    axis = int(call.attribute("axis", 0)) % len(value.shape)
    if call.is_of_images(value, axis):
        raise UnfitError("it picks some of the images")
    known = places % value.shape[axis]
    if places.ndim == 0:
        return call.build.function(torch.select, value, axis, int(known))
    if places.ndim > 1:
        raise UnfitError("its places are a table")
    if len(known) and np.array_equal(known, np.arange(known[0], known[0] + len(known))):
        part = _part(int(known[0]), int(known[0]) + len(known), 1, value.shape[axis])
        return call.build.function(operator.getitem, value, (*[slice(None)] * axis, part))
    index = call.build.weight("places", known.astype(np.int64), trained=False)
    return call.build.function(torch.index_select, value, axis, index)


def expand(call: Call) -> Made:
    """Expand dimensions of size one; the images stay as many as they are."""
    value, sizes = call.tensor(0), [int(size) for size in call.constant(1).reshape(-1)]
    if len(sizes) > len(value.shape):
        raise UnfitError("it adds dimensions")
    sizes = [1] * (len(value.shape) - len(sizes)) + sizes
    if sizes[0] not in (1, value.shape[0]):
        raise UnfitError("it repeats images")
    return call.build.method("expand", value, [-1, *(-1 if size == 1 else size for size in sizes[1:])])


def depth_to_space(call: Call) -> Made:
    """DepthToSpace in the order of torch's pixel shuffle."""
    if call.text("mode", "DCR") != "CRD":
        raise UnfitError("its mode is DCR, torch's is CRD")
    return call.build.function(torch.pixel_shuffle, call.tensor(0), int(call.attribute("blocksize")))


def shape(value: Made, start: int, end: int | None) -> Constant:
    """Return what Shape gives: a constant, in which the images are as many as the graph is written with."""
    return np.array(value.shape[start:end], dtype=np.int64)


def flatten_places(build: GraphBuilder, value: Made) -> Made:
    """Return an output of one pixel, (N, classes, 1, 1), as scores, (N, classes); others as they are."""
    is_pixel = len(value.shape) > 2 and set(value.shape[2:]) == {1}
    return build.function(torch.flatten, value, 1) if is_pixel else value


def _reshaped(call: Call, value: Made, sizes: Sequence[int]) -> Made:
    """Write a view to known sizes, whose first are the images, as many as there are."""
    if tuple(sizes) == value.shape:
        return value
    if sizes and sizes[0] == value.shape[0] == call.build.batch:
        if len(sizes) == 2:
            return call.build.function(torch.flatten, value, 1)
        return call.build.method("reshape", value, [call.build.images(value), *sizes[1:]])
    return call.build.method("reshape", value, [-1, *sizes[1:]])


def _part(start: int, end: int, step: int, size: int) -> slice:
    """Return a part of a dimension, all of it as ``slice(None)``.

    >>> _part(0, 9223372036854775807, 2, 8), _part(-4, 8, 1, 8), _part(0, 8, 1, 8)
    (slice(None, None, 2), slice(4, None, None), slice(None, None, None))
    """
    first, last, _ = slice(start, min(end, _END), step).indices(size)
    return slice(first or None, None if last >= size else last, None if step == 1 else step)
