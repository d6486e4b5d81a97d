"""Operators in space: pooling, padding, resizing, reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from pipeline.models.onnx_import.graph_builder import Made
from pipeline.models.onnx_import.operator_call import Call, UnfitError
from pipeline.models.onnx_import.windows import Window, window_of

_MAX_POOLS: dict[int, Callable[..., Any]] = {1: functional.max_pool1d, 2: functional.max_pool2d}
_AVERAGE_POOLS: dict[int, Callable[..., Any]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d}
_MEANS: dict[int, Callable[..., Any]] = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d}
_MAXIMA: dict[int, Callable[..., Any]] = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d}
_PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def max_pool(call: Call) -> Made:
    """MaxPool; lopsided padding is written before it."""
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise UnfitError("it gives the places of its values as well")
    value = call.tensor(0)
    window = window_of(call, value.shape, call.attribute("kernel_shape"))
    before: Any = window.before
    if window.is_lopsided or any(2 * pad > width for pad, width in zip(before, window.kernel, strict=True)):
        value = call.build.function(functional.pad, value, window.for_torch(), "constant", -math.inf)
        before = (0,) * window.dims
    return call.build.function(
        _of_dims(_MAX_POOLS, window.dims), value, window.kernel, window.strides, before, window.dilations,
        ceil_mode=bool(call.attribute("ceil_mode", 0)),
    )  # fmt: skip


def average_pool(call: Call) -> Made:
    """AveragePool; lopsided padding is written before it where it counts."""
    value = call.tensor(0)
    window = window_of(call, value.shape, call.attribute("kernel_shape"))
    if set(window.dilations) != {1}:
        raise UnfitError("its window is dilated")
    counted, before = bool(call.attribute("count_include_pad", 0)), window.before
    if window.is_lopsided:
        if not counted:
            return _average_of_inside(call, value, window)
        value, before = call.build.function(functional.pad, value, window.for_torch()), (0,) * window.dims
    ceil = bool(call.attribute("ceil_mode", 0))
    return call.build.function(
        _of_dims(_AVERAGE_POOLS, window.dims), value, window.kernel, window.strides, before, ceil, counted
    )


def _average_of_inside(call: Call, value: Made, window: Window) -> Made:
    """Average over what lies inside: the average with zeros around, over the share of the window that lies inside."""
    pool, pads = _of_dims(_AVERAGE_POOLS, window.dims), window.for_torch()
    ones = torch.ones(1, 1, *value.shape[2:])
    share = pool(functional.pad(ones, pads), window.kernel, window.strides)
    padded = call.build.function(functional.pad, value, pads)
    average = call.build.function(pool, padded, window.kernel, window.strides)
    weight = call.build.weight(f"{call.path(9)}.share", (1 / share).numpy(), trained=False)
    return call.build.function(torch.mul, average, weight)


def global_average(call: Call) -> Made:
    """GlobalAveragePool."""
    return call.build.function(_of_dims(_MEANS, len(call.tensor(0).shape) - 2), call.tensor(0), 1)


def global_maximum(call: Call) -> Made:
    """GlobalMaxPool."""
    return call.build.function(_of_dims(_MAXIMA, len(call.tensor(0).shape) - 2), call.tensor(0), 1)


def reduction(target: Callable[..., Any]) -> Callable[[Call], Made]:
    """Return the rule of a reduction along some dimensions, which are never the images."""

    def rule(call: Call) -> Made:
        value, axes = call.tensor(0), call.integers("axes", 1)
        dims = len(value.shape)
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return value
            raise UnfitError("it reduces all dimensions, the images as well")
        along = tuple(axis % dims for axis in axes)
        if any(call.is_of_images(value, dim) for dim in along):
            raise UnfitError("it reduces the dimension of the images")
        return call.build.function(target, value, along, bool(call.attribute("keepdims", 1)))

    return rule


def local_response(call: Call) -> Made:
    """LRN."""
    return call.build.function(
        functional.local_response_norm, call.tensor(0), int(call.attribute("size")),
        float(call.attribute("alpha", 1e-4)), float(call.attribute("beta", 0.75)), float(call.attribute("bias", 1.0)),
    )  # fmt: skip


def padding(call: Call) -> Made:
    """Pad by a constant, a reflection or the edge."""
    value, mode = call.tensor(0), call.text("mode", "constant")
    before, after = _added(call, len(value.shape))
    if mode not in _PADDING:
        raise UnfitError(f"it pads by {mode}, known are {', '.join(_PADDING)}")
    padded = [place for place, sizes in enumerate(zip(before, after, strict=True)) if any(sizes)]
    if not padded:
        return value
    # What is no constant, torch lays around the dimensions in space, and around all of them.
    first = padded[0] if mode == "constant" else 2
    if padded[0] < first:
        raise UnfitError(f"it pads images or channels by {mode}")
    amounts = [size for place in range(len(before) - 1, first - 1, -1) for size in (before[place], after[place])]
    if mode != "constant":
        return call.build.function(functional.pad, value, amounts, _PADDING[mode])
    number = _filling(call)
    return call.build.function(functional.pad, value, amounts, *(["constant", number] if number else []))


def _added(call: Call, dims: int) -> tuple[list[int], list[int]]:
    """Return how much is added at each dimension's begin and end."""
    pads, axes = call.integers("pads", 1) or [], call.optional(3)
    places = range(dims) if axes is None else [int(axis) % dims for axis in axes]
    before, after = [0] * dims, [0] * dims
    for i, place in enumerate(places):
        before[place], after[place] = pads[i], pads[i + len(places)]
    if before[0] or after[0]:
        raise UnfitError("it adds images")
    return before, after


def _filling(call: Call) -> float:
    constant = call.optional(2)
    return float(call.attribute("value", 0.0) if constant is None or not constant.size else constant.item())


def resize(call: Call) -> Made:
    """Resize and Upsample, where torch's interpolation gives the same."""
    value = call.tensor(0)
    mode, options = _interpolation(call)
    scales, sizes = _scales(call)
    if sizes is not None:
        if tuple(sizes[:2]) != value.shape[:2]:
            raise UnfitError("it resizes images or channels")
        options["size"] = sizes[2:]
    else:
        if scales[:2] != [1.0, 1.0]:
            raise UnfitError("it resizes images or channels")
        options["scale_factor"] = scales[2:]
    return call.build.function(functional.interpolate, value, mode=mode, **options)


def _scales(call: Call) -> tuple[list[float], list[int] | None]:
    """Return the factors of all dimensions, or the sizes where these are given."""
    if call.node.kind == "Upsample" or call.opset < 11:
        given = call.attribute("scales")
        return [float(factor) for factor in (call.constant(1).reshape(-1) if given is None else given)], None
    if call.attribute("axes"):
        raise UnfitError("it names the dimensions that it resizes")
    sizes = call.optional(3)
    if sizes is not None and sizes.size:
        return [], [int(size) for size in sizes]
    return [float(factor) for factor in call.constant(2).reshape(-1)], None


def _interpolation(call: Call) -> tuple[str, dict[str, Any]]:
    """Return torch's mode and its option for what lies in the corners."""
    mode = call.text("mode", "nearest")
    older = call.node.kind == "Upsample" or call.opset < 11
    place = call.text("coordinate_transformation_mode", "asymmetric" if older else "half_pixel")
    rounding = call.text("nearest_mode", "floor" if older else "round_prefer_floor")
    if mode == "nearest":
        if place == "asymmetric" and rounding == "floor":
            return "nearest", {}
        if place in ("half_pixel", "pytorch_half_pixel"):
            return "nearest-exact", {}
    smooth = {3: "linear", 4: {"linear": "bilinear", "cubic": "bicubic"}.get(mode, "")}.get(len(call.tensor(0).shape))
    if mode in ("linear", "cubic") and smooth and not call.attribute("antialias", 0):
        if place in ("half_pixel", "pytorch_half_pixel"):
            return str(smooth), {"align_corners": False}
        if place == "align_corners":
            return str(smooth), {"align_corners": True}
    raise UnfitError(f"it resizes by {mode} with {place}, which torch does not")


def _of_dims(kinds: dict[int, Callable[..., Any]], dims: int) -> Callable[..., Any]:
    if dims not in kinds:
        raise UnfitError(f"it works along {dims} dimensions in space, known are {' and '.join(map(str, kinds))}")
    return kinds[dims]
