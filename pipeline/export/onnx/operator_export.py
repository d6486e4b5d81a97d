"""One operation as ONNX operators, as torch's exporter writes it; exported alone, and once for all networks.

An operation is exported again where its arguments or shapes are others. Most operators are the same for any number of
channels: whether this one is, is tried by exporting it for twice as many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from pipeline.errors import ExportError
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.onnx.torch_exporter import exported
from pipeline.export.onnx.values import Value, mapped

_WIDENED = 2
"""Times the channels, with which an operation is tried again: what must divide the channels still does."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """An operation's ONNX operators."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]

    def same_as(self, other: Fragment) -> bool:
        """Return whether both do the same."""
        return (self.inputs, self.outputs) == (other.inputs, other.outputs) and all(
            [m.SerializeToString(deterministic=True) for m in mine]
            == [m.SerializeToString(deterministic=True) for m in theirs]
            for mine, theirs in ((self.nodes, other.nodes), (self.constants, other.constants))
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """What a node of a traced network does to the tensors that come in."""

    run: nn.Module
    """Takes the tensors in order."""
    inputs: Sequence[Value]
    kind: str
    """Names everything but the inputs' shapes and its own weights."""
    holds_weights: bool
    """What is exported then belongs to this one network."""


@dataclass(slots=True)
class Fragments:
    """All that were exported so far."""

    opset: int
    _known: dict[str, Fragment | None] = field(default_factory=dict)
    """None: it depends on the channels."""

    def of(self, operation: Operation) -> tuple[str, Fragment]:
        """Return an operation's fragment, and its name.

        Raises:
            FastPathUnsupportedError: it cannot be exported by itself.
        """
        exact, any_width = _key(operation, widths=True), _key(operation, widths=False)
        for key in (any_width, exact) if not operation.holds_weights else ():
            if found := self._known.get(key):
                return key, found
        made = self._export(operation, [value.tensor for value in operation.inputs])
        if operation.holds_weights:
            return exact, made
        if any_width not in self._known:
            self._known[any_width] = made if self._same_when_wider(operation, made) else None
        if self._known[any_width] is not None:
            return any_width, made
        self._known[exact] = made
        return exact, made

    def _same_when_wider(self, operation: Operation, made: Fragment) -> bool:
        try:
            return made.same_as(self._export(operation, [_widened(value.tensor) for value in operation.inputs]))
        except FastPathUnsupportedError:
            return False

    def _export(self, operation: Operation, inputs: Sequence[Tensor]) -> Fragment:
        names = [f"in{i}" for i in range(len(inputs))]
        images = tuple(torch.zeros(value.shape, dtype=value.dtype) for value in inputs)
        try:
            graph = exported(operation.run, images, self.opset, names, None).graph
        except ExportError as error:
            raise FastPathUnsupportedError(str(error)) from error
        return Fragment(tuple(names), tuple(o.name for o in graph.output), tuple(graph.node), tuple(graph.initializer))


def operation_of(node: fx.Node, network: fx.GraphModule, values: Mapping[fx.Node, Any]) -> Operation:
    """Return what a node does.

    Args:
        values: what the nodes before it give: ``Value`` for a tensor, numbers and tuples as they are.
    """
    inputs: list[Value] = []

    def taken(value: Any) -> Any:
        if not isinstance(value, Value):
            return value
        inputs.append(value)
        return _Slot(len(inputs) - 1)

    given = map_arg((node.args, node.kwargs), values.__getitem__)
    args, kwargs = mapped(given, taken)
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    run = _Alone(layer, node.target, args, kwargs)
    holds_weights = layer is not None and len(layer.state_dict()) > 0
    return Operation(run, inputs, _kind(layer, node.target, (args, kwargs)), holds_weights)


@dataclass(frozen=True, slots=True)
class _Slot:
    """The place of a tensor among arguments."""

    index: int


class _Alone(nn.Module):
    """One operation, as a network of its own."""

    def __init__(self, layer: nn.Module | None, target: Any, args: Any, kwargs: Any) -> None:
        super().__init__()
        self.layer, self._target, self._arguments = layer, target, (args, kwargs)
        self.eval()

    def forward(self, *tensors: Tensor) -> Any:
        args, kwargs = mapped(self._arguments, lambda a: tensors[a.index] if isinstance(a, _Slot) else a)
        if self.layer is not None:
            return self.layer(*args, **kwargs)
        if isinstance(self._target, str):  # a method of the first argument
            return getattr(args[0], self._target)(*args[1:], **kwargs)
        return self._target(*args, **kwargs)


def _kind(layer: nn.Module | None, target: Any, arguments: Any) -> str:
    if layer is None:
        name = target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
        return f"{name} {arguments}"
    settings = [
        (type(module).__qualname__, {name: value for name, value in vars(module).items() if not name.startswith("_")})
        for module in layer.modules()
    ]
    return f"{type(layer).__module__} {settings} {arguments}"


def _key(operation: Operation, *, widths: bool) -> str:
    """Return a name for an operation and the shapes that come in; without ``widths`` the channels' number is left out.

    Whether there is one channel stays: what is broadcast then is not otherwise.
    """
    shapes = [(v.tensor.dtype, *_shape(v.tensor, widths=widths)) for v in operation.inputs]
    return f"{operation.kind} {shapes}"


def _shape(tensor: Tensor, *, widths: bool) -> tuple[int | None, ...]:
    """Return a shape, its channels as None unless ``widths`` count."""
    shape = tuple(tensor.shape)
    if widths or not _has_channels(tensor):
        return shape
    return (shape[0], None, *shape[2:])


def _has_channels(tensor: Tensor) -> bool:
    return tensor.dim() >= 2 and tensor.shape[1] > 1


def _widened(tensor: Tensor) -> Tensor:
    """Return an image or vector of as many channels again."""
    shape = list(tensor.shape)
    if _has_channels(tensor):
        shape[1] *= _WIDENED
    return torch.empty(shape, dtype=tensor.dtype, device="meta")
