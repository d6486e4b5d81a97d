"""Which operators of the base file are left once layers are gone: an addition whose branch went is its shortcut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.template import Template

_RELU, _RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
_IMPLIED = {_RELU: frozenset({_RELU, _RELU6}), _RELU6: frozenset({_RELU6})}
"""An activation → those after which it changes nothing."""
_ALONE = {_RELU: "RELU", _RELU6: "RELU6"}
"""An activation → the operator that does nothing else."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator that is left."""

    inputs: tuple[int, ...]
    """Tensors of the base file, -1 where an input is left out."""
    outputs: tuple[int, ...]
    index: int | None = None
    """The operator in the base file."""
    activation: str | None = None
    """Instead of one: an activation that a removed addition leaves behind."""


def survivors(template: Template, gone: frozenset[int]) -> tuple[list[Step], Mapping[int, int]]:
    """Return what is left, in order, and for each tensor that a removed addition made the one in its place.

    Args:
        gone: operators whose weights the network no longer has.

    Raises:
        FastPathUnsupportedError: nothing is left for an output.
    """
    model = template.model
    graph = model.subgraphs[0]
    steps: list[Step] = []
    dead: set[int] = set()
    instead: dict[int, int] = {}
    activations: dict[int, int] = {}
    """What the values of a tensor went through last."""
    for index, operator in enumerate(graph.operators):
        inputs = tuple(instead.get(int(i), int(i)) for i in operator.inputs)
        outputs = tuple(int(o) for o in operator.outputs)
        lost = [i for i in inputs if i in dead]
        if index not in gone and not lost:
            steps.append(Step(inputs, outputs, index=index))
            activations[outputs[0]] = _activation(model, operator)
            continue
        kept = [i for i in inputs if i not in dead]
        if index not in gone and kept and flatbuffer.kind(model, operator) == "CONCATENATION":
            steps.append(Step(tuple(kept), outputs, index=index))
            activations[outputs[0]] = _activation(model, operator)
            continue
        if index in gone or flatbuffer.kind(model, operator) != "ADD" or len(kept) != 1:
            dead.update(outputs)
            continue
        wanted = operator.builtinOptions.fusedActivationFunction
        if wanted and activations.get(kept[0], 0) not in _IMPLIED.get(wanted, ()):
            if wanted not in _ALONE:
                raise FastPathUnsupportedError(f"a removed addition leaves activation {wanted} behind")
            steps.append(Step((kept[0],), outputs, activation=_ALONE[wanted]))
            activations[outputs[0]] = wanted
        else:
            instead[outputs[0]] = kept[0]
    wanted_outputs = {instead.get(int(o), int(o)) for o in graph.outputs}
    if wanted_outputs & dead:
        raise FastPathUnsupportedError("the layers that make its output are gone")
    return _needed(steps, wanted_outputs), instead


def _activation(model: flatbuffer.Model, operator: flatbuffer.Operator) -> int:
    """Return the activation that an operator ends with; 0 for none."""
    alone = {name: number for number, name in _ALONE.items()}
    kind = flatbuffer.kind(model, operator)
    return int(alone.get(kind, getattr(operator.builtinOptions, "fusedActivationFunction", 0)))


def _needed(steps: list[Step], outputs: set[int]) -> list[Step]:
    """Drop what nothing reads any more."""
    read, kept = set(outputs), []
    for step in reversed(steps):
        if read & set(step.outputs):
            kept.append(step)
            read.update(step.inputs)
    return kept[::-1]
