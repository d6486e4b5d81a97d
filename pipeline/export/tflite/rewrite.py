"""A network's file made of the base network's: other weights, fewer channels, fewer layers, shapes to match."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pipeline.export.constants import Constants
from pipeline.export.format import INPUT, OUTPUT, FastPathUnsupportedError
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.live_operators import Step, survivors
from pipeline.export.tflite.shapes import Operation, Resolved, Shape, resolve
from pipeline.export.tflite.template import Template

_NO_OPTIONS = 0


def rewrite(template: Template, constants: Constants) -> bytes:
    """Return the file of a network that was cut from the template's.

    Raises:
        FastPathUnsupportedError: an operator's shape after the cut is not known; says which.
    """
    values = {place: binding.value(constants) for place, binding in template.bindings.items()}
    gone = frozenset(index for (index, _), value in values.items() if value is None)
    steps, instead = survivors(template, gone)
    writer = _Writer(template, {place: value for place, value in values.items() if value is not None})
    for step in steps:
        writer.add(step)
    return flatbuffer.write(writer.finished(instead))


class _Writer:
    """Builds the new file, operator by operator, with the shapes as they come out."""

    def __init__(self, template: Template, values: Mapping[tuple[int, int], NDArray[Any]]) -> None:
        self._base = template.model
        self._old = template.model.subgraphs[0].tensors
        self._names = template.bindings
        self._values = values
        self._model = copy.copy(template.model)
        self._model.operatorCodes = list(template.model.operatorCodes)
        self._model.buffers = [flatbuffer.new_buffer(None)]  # the schema's: buffer 0 is empty
        self._tensors: list[flatbuffer.Tensor] = []
        self._operators: list[flatbuffer.Operator] = []
        self._activations: dict[int, int] = {}
        """Tensor in the base file → tensor here."""
        self._shared: dict[tuple[Any, ...], int] = {}
        """A constant's type, shape and bytes → tensor here."""
        for index in template.model.subgraphs[0].inputs:
            self._activation(int(index), flatbuffer.shape(self._old[index]))

    def add(self, step: Step) -> None:
        """Write one operator and its outputs."""
        if step.index is None:
            self._add_activation(step)
            return
        operator = self._base.subgraphs[0].operators[step.index]
        inputs = [self._input(step.index, position, index) for position, index in enumerate(step.inputs)]
        resolved = resolve(self._operation(operator, step, inputs), outputs=len(step.outputs))
        for position, content in resolved.constants.items():
            inputs[position] = self._changed_constant(step.inputs[position], content)
        self._write(operator, inputs, self._outputs(step, resolved), resolved.options)

    def finished(self, instead: Mapping[int, int]) -> flatbuffer.Model:
        """Return the file's objects."""
        model = self._model
        graph = copy.copy(self._base.subgraphs[0])
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = self._numbers(graph.inputs, instead)
        graph.outputs = self._numbers(graph.outputs, instead)
        model.subgraphs = [graph]
        model.signatureDefs = [self._signature(s, instead) for s in model.signatureDefs or []]
        model.metadata = [self._metadata(entry) for entry in model.metadata or []]
        model.metadataBuffer = None
        flatbuffer.name_ends(model, INPUT, OUTPUT)
        return model

    def _operation(self, operator: flatbuffer.Operator, step: Step, inputs: list[int]) -> Operation:
        numbers = {
            position: self._values.get((step.index or 0, position), value)
            for position, index in enumerate(step.inputs)
            if index >= 0
            and (value := flatbuffer.constant(self._base, self._old[index])) is not None
            and value.dtype in (np.int32, np.int64)
        }
        return Operation(
            kind=flatbuffer.kind(self._base, operator), options=operator.builtinOptions,
            inputs=[None if i < 0 else flatbuffer.shape(self._tensors[i]) for i in inputs],
            before=[None if i < 0 else flatbuffer.shape(self._old[i]) for i in step.inputs],
            output=flatbuffer.shape(self._old[step.outputs[0]]), constants=numbers,
        )  # fmt: skip

    def _input(self, operator: int, position: int, index: int) -> int:
        if index < 0:
            return -1
        if index in self._activations:
            return self._activations[index]
        old = self._old[index]
        if (operator, position) in self._values:
            name = self._names[operator, position].name
            return self._constant(old, self._values[operator, position], name.encode())
        if not flatbuffer.is_constant(self._base, old):
            raise FastPathUnsupportedError("an operator reads a tensor that nothing writes")
        return self._copied(old)

    def _copied(self, old: flatbuffer.Tensor) -> int:
        """Return a constant that stays as it is."""
        data = np.asarray(self._base.buffers[old.buffer].data, np.uint8)
        return self._share(old, data, flatbuffer.shape(old), b"")

    def _changed_constant(self, index: int, content: NDArray[Any]) -> int:
        old = self._old[index]
        return self._constant(old, content.astype(flatbuffer.DTYPES[old.type]), b"")

    def _constant(self, old: flatbuffer.Tensor, content: NDArray[Any], name: bytes) -> int:
        return self._share(old, content, content.shape, name)

    def _share(self, old: flatbuffer.Tensor, content: NDArray[Any], shape: Shape, name: bytes) -> int:
        """Return the constant; weights by name, whole numbers by value, each once."""
        key = (int(old.type), shape, name or content.tobytes())
        if key not in self._shared:
            self._model.buffers.append(flatbuffer.new_buffer(content))
            self._shared[key] = self._tensor(old, shape, len(self._model.buffers) - 1, name)
        return self._shared[key]

    def _activation(self, index: int, shape: Shape) -> int:
        graph = self._base.subgraphs[0]
        old = self._old[index]
        outside = index in graph.inputs or index in graph.outputs
        self._activations[index] = self._tensor(old, shape, 0, old.name if outside else b"")
        return self._activations[index]

    def _tensor(self, old: flatbuffer.Tensor, shape: Shape, buffer: int, name: bytes) -> int:
        tensor = copy.copy(old)
        tensor.shape = np.array(shape, np.int32)
        tensor.shapeSignature = None
        tensor.buffer, tensor.name = buffer, name
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _outputs(self, step: Step, resolved: Resolved) -> list[int]:
        if len(resolved.outputs) != len(step.outputs):
            raise FastPathUnsupportedError("an operator has several outputs, and how they change is not known")
        return [self._activation(i, shape) for i, shape in zip(step.outputs, resolved.outputs, strict=True)]

    def _add_activation(self, step: Step) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = flatbuffer.opcode(self._model, str(step.activation))
        operator.builtinOptionsType, operator.builtinOptions = _NO_OPTIONS, None
        inputs = [self._activations[i] for i in step.inputs]
        shape = flatbuffer.shape(self._tensors[inputs[0]])
        self._write(operator, inputs, [self._activation(step.outputs[0], shape)], {})

    def _write(
        self, operator: flatbuffer.Operator, inputs: list[int], outputs: list[int], options: Mapping[str, Any]
    ) -> None:
        written = copy.copy(operator)
        written.inputs, written.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            written.builtinOptions = copy.copy(operator.builtinOptions)
            for name, value in options.items():
                setattr(written.builtinOptions, name, value)
        self._operators.append(written)

    def _numbers(self, indices: Any, instead: Mapping[int, int]) -> NDArray[np.int32]:
        return np.array([self._activations[instead.get(int(i), int(i))] for i in indices], np.int32)

    def _signature(self, old: Any, instead: Mapping[int, int]) -> Any:
        signature = copy.copy(old)
        for side in ("inputs", "outputs"):
            entries = [copy.copy(entry) for entry in getattr(old, side) or []]
            for entry in entries:
                entry.tensorIndex = self._activations[instead.get(int(entry.tensorIndex), int(entry.tensorIndex))]
            setattr(signature, side, entries)
        return signature

    def _metadata(self, old: Any) -> Any:
        entry = copy.copy(old)
        self._model.buffers.append(self._base.buffers[old.buffer])
        entry.buffer = len(self._model.buffers) - 1
        return entry
