"""The layers that hold nearly all of a network's weights, as torch's exporter writes them: one ONNX operator each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pipeline.export.constants import Layer, Norm, folded_bias, folded_weight


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant of the file whose values are asked for only where they are written."""

    name: str
    shape: tuple[int, ...]
    value: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of its values, float32."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Operator:
    """One ONNX operator and what it reads besides the values that come in."""

    kind: str
    weights: Sequence[Weight]
    attributes: dict[str, Any] = field(default_factory=dict)


def operator_of(name: str, module: nn.Module, rank: int, norm: Norm | None) -> Operator | None:
    """Return a layer's operator; None where it is none of these, or of an unusual kind.

    Args:
        name: of the layer, which its weights are called after.
        rank: number of axes of what comes in.
        norm: the batch norm that is folded into it.
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d) and type(module) in (nn.Conv1d, nn.Conv2d):
        if module.padding_mode == "zeros" and not isinstance(module.padding, str):
            return Operator("Conv", _folded(name, module, norm), _convolution(module, module.padding))
        return None
    if type(module) is nn.Linear and rank == 2 and len(weights := _folded(name, module, norm)) == 2:
        return Operator("Gemm", weights, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1})
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return _batch_norm(name, module)
    return None


def _folded(name: str, layer: Layer, norm: Norm | None) -> Sequence[Weight]:
    weight = Weight(f"{name}.weight", tuple(layer.weight.shape), lambda: folded_weight(layer, norm))
    if layer.bias is None and norm is None:
        return (weight,)
    return weight, Weight(f"{name}.bias", tuple(layer.weight.shape[:1]), lambda: _present(folded_bias(layer, norm)))


def _present(bias: Tensor | None) -> Tensor:
    assert bias is not None  # the layer or its batch norm has one
    return bias


def _convolution(layer: nn.Conv1d | nn.Conv2d, padding: Sequence[int]) -> dict[str, Any]:
    return {
        "dilations": list(layer.dilation), "group": layer.groups, "kernel_shape": list(layer.kernel_size),
        "pads": [*padding, *padding], "strides": list(layer.stride),
    }  # fmt: skip


def _batch_norm(name: str, norm: nn.Module) -> Operator | None:
    """Opset 14 added ``training_mode``, zero where it is not written."""
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or not norm.affine:
        return None
    tensors = {"weight": norm.weight, "bias": norm.bias, "running_mean": mean, "running_var": variance}
    weights = [
        Weight(f"{name}.{part}", tuple(tensor.shape), lambda tensor=tensor: tensor.detach().float())  # type: ignore[misc]
        for part, tensor in tensors.items()
    ]
    return Operator("BatchNormalization", weights, {"epsilon": norm.eps, "momentum": 1 - (norm.momentum or 0.1)})
