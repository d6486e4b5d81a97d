"""The converted base network, read once: which of its constants is which weight, in which order of axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.export.constants import Constants
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.tflite import flatbuffer

Order = tuple[int | None, ...]
"""For each axis in the file the weight's axis that it is; None: of length one, and none of them."""

LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Operators whose inputs are values, weights and, mostly, a bias."""

PADS = frozenset({"PAD", "PADV2"})

_ORDERS: Mapping[int, Sequence[tuple[int, ...]]] = {
    4: ((0, 2, 3, 1), (1, 2, 3, 0), (0, 1, 2, 3)),  # OIHW to OHWI; depthwise (C, 1, H, W) to (1, H, W, C); as it is
    3: ((0, 1, 2), (1, 2, 0)),  # a parameter of each channel: (C, 1, 1) to (1, 1, C)
    2: ((0, 1), (1, 0)),
    1: ((0,),),
}
_TOLERANCE = 1e-4
"""Between a folded weight of ours and the converter's, relative to the largest: both round on their own way."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One constant of the file: which weight it holds and how."""

    name: str
    order: Order
    zeros: bool = False
    """The layer has no bias of its own: the converter put a zero for each output of the weight that is named."""
    offset: float = 0.0
    """What the converter added to each: a constant that followed the layer, as in a hard sigmoid, relu6(x + 3) / 6."""

    def value(self, constants: Constants) -> NDArray[np.float32] | None:
        """Return what the file has to hold for a network with these constants; None where it went with a cut."""
        if self.name not in constants:
            return None
        source: NDArray[np.float32] = constants[self.name].numpy()
        if self.zeros:
            return np.full(source.shape[0], self.offset, np.float32)
        axes = [axis for axis in self.order if axis is not None]
        rest = [axis for axis in range(source.ndim) if axis not in axes]  # all of length one
        lengths = [1 if axis is None else source.shape[axis] for axis in self.order]
        return np.ascontiguousarray(
            source.transpose(axes + rest).reshape(lengths) + np.float32(self.offset), np.float32
        )


@dataclass(frozen=True, slots=True)
class Padding:
    """How many channels of zeros a shortcut adds: a row of a constant that pads every dimension."""

    name: str
    row: int
    rows: int

    def value(self, constants: Constants) -> NDArray[np.int32] | None:
        """Return the amounts, (dimensions, 2), for a network with these constants; None where it went with a cut."""
        if self.name not in constants:
            return None
        amounts = np.zeros((self.rows, 2), np.int32)
        amounts[self.row] = constants[self.name].numpy()
        return amounts


@dataclass(frozen=True, slots=True)
class Template:
    """A converted network and the weights behind its constants; never changed."""

    model: flatbuffer.Model
    bindings: Mapping[tuple[int, int], Binding | Padding]
    """Index of an operator, position among its inputs → what stands there."""


def study(data: bytes, constants: Constants) -> Template:
    """Return a converted network as a template.

    Args:
        constants: of the network that was converted, no two alike (see ``distinct``).

    Raises:
        FastPathUnsupportedError: a constant is no weight of the network, or the file is of an unsupported kind.
    """
    model = flatbuffer.read(data)
    if len(model.subgraphs) != 1:
        raise FastPathUnsupportedError(f"it has {len(model.subgraphs)} subgraphs; control flow is not rewritten")
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        _require_plain(tensor)
    by_size: dict[int, list[str]] = defaultdict(list)
    for name, value in constants.items():
        if value.is_floating_point():
            by_size[value.numel()].append(name)
    bindings: dict[tuple[int, int], Binding | Padding] = {}
    pads = [name for name in constants if name.endswith(".pad")]
    for index, operator in enumerate(graph.operators):
        for position, binding in _bindings_of(model, operator, constants, by_size):
            bindings[index, position] = binding
        if (padding := _padding(model, operator, constants, pads)) is not None:
            bindings[index, 1] = padding
            pads.remove(padding.name)
    return Template(model, bindings)


def _require_plain(tensor: Any) -> None:
    if tensor.quantization is not None and tensor.quantization.scale is not None:
        raise FastPathUnsupportedError("it is quantized")
    if tensor.sparsity is not None or tensor.isVariable:
        raise FastPathUnsupportedError("it has sparse or variable tensors")
    if tensor.shapeSignature is not None and (np.asarray(tensor.shapeSignature) < 0).any():
        raise FastPathUnsupportedError("it has tensors of unknown length")


def _bindings_of(
    model: flatbuffer.Model, operator: flatbuffer.Operator, constants: Constants, by_size: Mapping[int, Sequence[str]]
) -> Iterator[tuple[int, Binding]]:
    kind = flatbuffer.kind(model, operator)
    tensors = model.subgraphs[0].tensors
    layer = None
    for position, index in enumerate(operator.inputs):
        value = flatbuffer.constant(model, tensors[index]) if index >= 0 else None
        if value is None or value.dtype != np.float32 or value.size <= 1:
            continue
        if kind in LAYERS and position == 2 and layer is not None:
            binding = _match_bias(value, constants, layer)
        else:
            binding = _match(value, constants, by_size.get(value.size, ()))
        if binding is None:
            raise FastPathUnsupportedError(f"a constant of {kind}, of shape {value.shape}, is no weight of the network")
        if kind in LAYERS and position == 1:
            layer = binding.name.removesuffix(".weight")
        yield position, binding


def _padding(
    model: flatbuffer.Model, operator: flatbuffer.Operator, constants: Constants, pads: Sequence[str]
) -> Padding | None:
    """Return which of the network's ``pads``, in forward order, an operator is; None where it is none of them."""
    if flatbuffer.kind(model, operator) not in PADS:
        return None
    amounts = flatbuffer.constant(model, model.subgraphs[0].tensors[operator.inputs[1]])
    rows = [] if amounts is None else np.flatnonzero(amounts.any(axis=1)).tolist()
    if amounts is None or len(rows) != 1:
        return None
    same = [name for name in pads if constants[name].tolist() == amounts[rows[0]].tolist()]
    return Padding(same[0], rows[0], len(amounts)) if same else None


def _match(value: NDArray[Any], constants: Constants, names: Sequence[str]) -> Binding | None:
    """Return the weight that holds these values; None where there is none."""
    allowed = _TOLERANCE * max(float(np.abs(value).max()), 1e-6)
    for name in names:
        source: NDArray[np.float32] = _array(constants[name])
        for order in _orders(source.shape, value.shape):
            binding = Binding(name, order)
            found = binding.value(constants)
            if found is not None and float(np.abs(found - value).max()) <= allowed:
                return binding
    return None


def _match_bias(value: NDArray[Any], constants: Constants, layer: str) -> Binding | None:
    """Return the layer's bias, or zeros where it has none, with what the converter added; None for another one."""
    own = constants.get(f"{layer}.bias")
    added = value - (_array(own) if own is not None else 0.0)
    allowed = _TOLERANCE * max(float(np.abs(value).max()), 1e-6)
    if added.shape != value.shape or float(np.ptp(added)) > 2 * allowed:
        return None
    offset = float(np.median(added)) if float(np.abs(added).max()) > allowed else 0.0
    if own is None:
        return Binding(f"{layer}.weight", (), zeros=True, offset=offset)
    return Binding(f"{layer}.bias", (0,), offset=offset)


def _orders(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Order]:
    """Yield the ways in which a weight's axes can lie in the file's.

    >>> list(_orders((32, 1, 3, 3), (1, 3, 3, 32))), list(_orders((8,), (1, 1, 1, 8)))
    ([(1, 2, 3, 0)], [(None, None, None, 0)])
    """
    for order in _ORDERS.get(len(source), (tuple(range(len(source))),)):
        if tuple(source[axis] for axis in order) == target:
            yield order
            continue
        long = [axis for axis in order if source[axis] != 1]
        places = [place for place, length in enumerate(target) if length != 1]
        if len(source) != len(target) and [source[a] for a in long] == [target[p] for p in places]:
            where = dict(zip(places, long, strict=True))
            yield tuple(where.get(place) for place in range(len(target)))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.numpy()
    return found
