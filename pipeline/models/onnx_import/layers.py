"""Operators with weights: torch's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.onnx_import.graph_builder import Constant, Made, tensor_of
from pipeline.models.onnx_import.operator_call import Call, UnfitError
from pipeline.models.onnx_import.windows import window_of

_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d}
_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d}
_INSTANCE_NORMS: dict[int, Callable[..., nn.Module]] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d}


def convolution(call: Call) -> Made:
    """Conv; padding that differs from side to side is written before it."""
    value, weight, bias = call.tensor(0), call.constant(1), call.optional(2)
    window = window_of(call, value.shape, weight.shape[2:])
    padding: Sequence[int] = window.before
    if window.is_lopsided:
        value, padding = call.build.function(functional.pad, value, window.for_torch()), [0] * window.dims
    kind = _of_rank(_CONVOLUTIONS, value)
    groups = int(call.attribute("group", 1))

    def make() -> nn.Module:
        layer = kind(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride=window.strides, padding=padding,
            dilation=window.dilations, groups=groups, bias=bias is not None,
        )  # fmt: skip
        return _filled(layer, weight, bias)

    return call.build.layer(call.path(), value, make, _shared(call, "conv", window, groups))


def transposed_convolution(call: Call) -> Made:
    """ConvTranspose; what is cut off at the end alone is output padding."""
    value, weight, bias = call.tensor(0), call.constant(1), call.optional(2)
    if call.attribute("output_shape"):
        raise UnfitError("it is given the shape of its result, expected are pads")
    window = window_of(call, value.shape, weight.shape[2:])
    if window.is_automatic:
        raise UnfitError("its padding is automatic, expected are numbers")
    given = call.attribute("output_padding") or [0] * window.dims
    output_padding = [int(g) + b - a for g, b, a in zip(given, window.before, window.after, strict=True)]
    limits = [max(s, d) for s, d in zip(window.strides, window.dilations, strict=True)]
    if not all(0 <= extra < limit for extra, limit in zip(output_padding, limits, strict=True)):
        raise UnfitError("it pads its sides by different numbers")
    kind, groups = _of_rank(_TRANSPOSED, value), int(call.attribute("group", 1))

    def make() -> nn.Module:
        layer = kind(
            weight.shape[0], weight.shape[1] * groups, weight.shape[2:], stride=window.strides, padding=window.before,
            output_padding=output_padding, groups=groups, bias=bias is not None, dilation=window.dilations,
        )  # fmt: skip
        return _filled(layer, weight, bias)

    return call.build.layer(call.path(), value, make, _shared(call, "transposed", window, groups))


def batch_norm(call: Call) -> Made:
    """BatchNormalization, with the statistics that it has."""
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):
        raise UnfitError(
            "it normalises by the images that it sees, as in training: call model.eval() before the export"
        )
    value, (scale, bias, mean, variance) = call.tensor(0), (call.constant(i) for i in range(1, 5))
    eps, momentum = float(call.attribute("epsilon", 1e-5)), 1 - float(call.attribute("momentum", 0.9))

    def make() -> nn.Module:
        kind = nn.BatchNorm2d if len(value.shape) == 4 else nn.BatchNorm1d
        layer = _filled(kind(len(scale), eps=eps, momentum=momentum), scale, bias)
        assert isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))
        layer.running_mean, layer.running_var = tensor_of(mean), tensor_of(variance)
        return layer

    return call.build.layer(call.path(), value, make)


def gemm(call: Call) -> Made:
    """Gemm by a constant matrix: a linear layer."""
    value, weight = call.tensor(0), call.constant(1)
    if call.attribute("transA", 0) or len(value.shape) != 2:
        raise UnfitError("its first matrix is transposed or has more than two dimensions")
    weight = weight if call.attribute("transB", 0) else weight.T
    weight = weight * np.float32(call.attribute("alpha", 1.0))
    bias = call.optional(2)
    if bias is not None:
        bias = _row(bias * np.float32(call.attribute("beta", 1.0)), len(weight))
    return _linear(call, value, weight, bias)


def product(call: Call) -> Made:
    """MatMul: by a constant matrix a linear layer, whose bias may have been a sum behind it."""
    factors = call.inputs[:2]
    if isinstance(factors[0], Made) and isinstance(factors[1], np.ndarray) and factors[1].ndim == 2:
        bias = call.optional(2)
        weight = factors[1].T
        return _linear(call, factors[0], weight, None if bias is None else _row(bias, len(weight)))
    return call.build.function(torch.matmul, call.tensor(0), call.tensor(1))


def prelu(call: Call) -> Made:
    """PRelu with one slope, or one a channel."""
    value, slope = call.tensor(0), call.constant(1)
    channels = value.shape[1] if len(value.shape) > 1 else 1
    aligned = (1,) * (len(value.shape) - slope.ndim) + slope.shape
    if slope.size != 1 and aligned != (1, channels, *(1,) * (len(value.shape) - 2)):
        raise UnfitError(f"its slopes are of shape {slope.shape}, expected is one a channel")

    def make() -> nn.Module:
        return _filled(nn.PReLU(slope.size), slope.reshape(-1), None)

    return call.build.layer(call.path(), value, make)


def instance_norm(call: Call) -> Made:
    """InstanceNormalization."""
    value, scale, bias = call.tensor(0), call.constant(1), call.constant(2)
    kind, eps = _of_rank(_INSTANCE_NORMS, value), float(call.attribute("epsilon", 1e-5))
    return call.build.layer(call.path(), value, lambda: _filled(kind(len(scale), eps=eps, affine=True), scale, bias))


def layer_norm(call: Call) -> Made:
    """LayerNormalization over the last dimensions."""
    value, scale, bias = call.tensor(0), call.optional(1), call.optional(2)
    axis, eps = int(call.attribute("axis", -1)) % len(value.shape), float(call.attribute("epsilon", 1e-5))
    shape = value.shape[axis:]

    def make() -> nn.Module:
        layer = nn.LayerNorm(shape, eps=eps, elementwise_affine=scale is not None, bias=bias is not None)
        return _filled(layer, scale, bias)

    return call.build.layer(call.path(), value, make)


def group_norm(call: Call) -> Made:
    """GroupNormalization, of operator set 21 on."""
    value, scale, bias = call.tensor(0), call.constant(1), call.constant(2)
    groups, channels = int(call.attribute("num_groups")), value.shape[1]
    eps = float(call.attribute("epsilon", 1e-5))
    return call.build.layer(call.path(), value, lambda: _filled(nn.GroupNorm(groups, channels, eps=eps), scale, bias))


def dropout(call: Call) -> Made:
    """Dropout, which does nothing but in training."""
    training = call.optional(2)
    if training is not None and bool(training):
        raise UnfitError("it drops values, as in training: call model.eval() before the export")
    ratio = call.optional(1)
    share = float(call.attribute("ratio", 0.5) if ratio is None else ratio)
    return call.build.layer(call.path(9), call.tensor(0), lambda: nn.Dropout(share))


def _linear(call: Call, value: Made, weight: Constant, bias: Constant | None) -> Made:
    def make() -> nn.Module:
        return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None), weight, bias)

    return call.build.layer(call.path(), value, make, _shared(call, "linear"))


def _row(bias: Constant, width: int) -> Constant:
    if bias.size != math.prod(bias.shape[-1:]) and bias.size != 1:
        raise UnfitError(f"its bias is of shape {bias.shape}, expected is one number an output")
    return np.broadcast_to(bias.reshape(-1), (width,))


def _filled(layer: nn.Module, weight: Constant | None, bias: Constant | None) -> nn.Module:
    with torch.no_grad():
        for name, values in (("weight", weight), ("bias", bias)):
            if values is not None:
                own: Tensor = getattr(layer, name)
                own.copy_(tensor_of(values).reshape(own.shape))
    return layer


def _of_rank(kinds: Mapping[int, Callable[..., nn.Module]], value: Made) -> Callable[..., nn.Module]:
    if len(value.shape) not in kinds:
        raise UnfitError(f"it reads {len(value.shape)} dimensions, expected are images or signals")
    return kinds[len(value.shape)]


def _shared(call: Call, *options: object) -> object:
    """Return what says that two operators are one layer: the same weights, read in the same way."""
    names: Sequence[str] = call.node.inputs[1:]
    return (*names, *map(str, options), str(sorted(call.node.attributes.items(), key=lambda item: item[0])))
