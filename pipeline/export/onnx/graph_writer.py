"""Graph writer: walks a traced network and writes each operation as ONNX operators."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from pipeline.export.constants import folded_norms
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.onnx.graph_builder import Sheet
from pipeline.export.onnx.layers import operator_of
from pipeline.export.onnx.operator_export import Fragments, operation_of
from pipeline.export.onnx.shape_inference import dry_run
from pipeline.export.onnx.values import Value, leaves, mapped
from pipeline.export.signature import signature_of
from pipeline.structures import Inputs

Shape = tuple[int, ...]


def composed(
    network: fx.GraphModule, example: Inputs, fragments: Fragments
) -> tuple[Sheet, Mapping[str, Shape], frozenset[str]]:
    """Return a network's operators, the shape of each value that it computes, and the names of its fragments.

    Raises:
        FastPathUnsupportedError: an operation cannot be written by itself.
    """
    composer = _Composer(network, dry_run(network, example), fragments)
    composer.run()
    return composer.sheet, composer.shapes, frozenset(composer.used)


class _Composer:
    """Writes operators, node by node."""

    def __init__(self, network: fx.GraphModule, results: Mapping[fx.Node, Any], fragments: Fragments) -> None:
        self.sheet = Sheet()
        self.shapes: dict[str, Shape] = {}
        self.used: set[str] = set()
        self._network, self._results, self._fragments = network, results, fragments
        self._modules = dict(network.named_modules())
        self._norms = folded_norms(network, (nn.Conv1d, nn.Conv2d, nn.Linear))
        self._folded = set(self._norms.values())
        self._signature = signature_of(network)
        placeholders = [node for node in network.graph.nodes if node.op == "placeholder"]
        self._inputs = dict(zip(placeholders, self._signature.inputs, strict=True))
        self._reserved = {*self._signature.inputs, *self._signature.outputs}
        self._values: dict[fx.Node, Any] = {}
        """What each node gives, tensors by name."""

    def run(self) -> None:
        """Write all that the answer needs."""
        needed: set[fx.Node] = set()
        for node in reversed(self._network.graph.nodes):
            if node.op == "output" or any(user in needed for user in node.users):
                needed.add(node)
        for node in self._network.graph.nodes:
            if node in needed:
                self._values[node] = self._value(node)
        self._finish(next(self._values[node] for node in reversed(self._network.graph.nodes) if node.op == "output"))

    def _value(self, node: fx.Node) -> Any:
        result = self._results[node]
        if node.op == "placeholder":
            return Value(self._inputs[node], result)
        if node.op == "output":
            return map_arg(node.args[0], self._values.__getitem__)
        tensors = leaves(result, Tensor)
        if not tensors:
            return result
        if not any(tensor.is_meta for tensor in tensors):
            return self._held(node, result)
        if node.target is operator.getitem and isinstance(self._values[node.all_input_nodes[0]], (tuple, list)):
            return self._values[node.all_input_nodes[0]][node.args[1]]
        if node.op == "call_module" and self._modules[str(node.target)] in self._folded:
            return self._values[node.all_input_nodes[0]]
        return self._layer(node, result) or self._fragment(node, result)

    def _layer(self, node: fx.Node, result: Tensor) -> Value | None:
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        name, source = str(node.target), self._values[node.all_input_nodes[0]]
        layer = operator_of(name, self._modules[name], source.tensor.dim(), self._norms.get(name))
        if layer is None and name in self._norms:
            raise FastPathUnsupportedError(
                f"{name} has a batch norm behind it, and is of a kind that is not folded here"
            )
        if layer is None:
            return None
        value: Value = self._named(node, result)
        self.sheet.add_operator(value.name, layer, [source.name])
        return value

    def _fragment(self, node: fx.Node, result: Any) -> Any:
        operation = operation_of(node, self._network, self._values)
        key, fragment = self._fragments.of(operation)
        self.used.add(key)
        inputs = [value.name for value in operation.inputs]
        if [n.op_type for n in fragment.nodes] == ["Identity"] and len(inputs) == 1:
            return operation.inputs[0]
        found = self._named(node, result)
        outputs = leaves(found, Value)
        if len(outputs) != len(fragment.outputs):
            raise FastPathUnsupportedError(
                f"{node.name} gives {len(outputs)} tensors, its operators {len(fragment.outputs)}"
            )
        self.sheet.add_fragment(node.name, fragment, inputs, [value.name for value in outputs])
        return found

    def _held(self, node: fx.Node, result: Any) -> Any:
        """Return tensors that do not depend on the image: a parameter under its own name, what is computed of it."""
        names = self._names(str(node.target) if node.op == "get_attr" else node.name)
        return mapped(result, lambda t: Value(self.sheet.add_tensor(next(names), t), t) if isinstance(t, Tensor) else t)

    def _named(self, node: fx.Node, result: Any) -> Any:
        """Return what a node gives, and remember the shapes of its tensors."""
        names = self._names(node.name)
        found = mapped(result, lambda t: Value(next(names), t) if isinstance(t, Tensor) else t)
        self.shapes |= {value.name: tuple(value.tensor.shape) for value in leaves(found, Value)}
        return found

    def _finish(self, answer: Any) -> None:
        answers = leaves(answer, Value)
        if len({value.name for value in answers} & self.shapes.keys()) < len(self._signature.outputs):
            raise FastPathUnsupportedError("its answers are not each a tensor that it computes for them alone")
        for value, name in zip(answers, self._signature.outputs, strict=True):
            self.sheet.rename(value.name, name)
            self.shapes[name] = self.shapes.pop(value.name)
        self.sheet.join_reshapes(self._signature.outputs)
        written = self.sheet.drop_unread(self._signature.outputs)
        self.shapes = {name: shape for name, shape in self.shapes.items() if name in written}

    def _names(self, name: str) -> Iterator[str]:
        """Return names for what a node gives, none of them an input's or output's."""
        while name in self._reserved:
            name += "_"
        return itertools.chain([name], (f"{name}.{number}" for number in itertools.count(1)))
