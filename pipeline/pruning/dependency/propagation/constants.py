"""Tensors that forward() makes of one number: their sizes are written in the graph, and may count channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from pipeline.pruning.dependency.propagation.call import Call, neutral
from pipeline.pruning.dependency.propagation.labels import (
    ELEMENTS,
    Constant,
    Place,
    PropagationState,
    UnsupportedOperatorError,
    spread,
    varying,
)
from pipeline.pruning.dependency.propagation.shape_edits import Literal


def filled(call: Call) -> Tensor:
    """Give each channel a label: of an image those of dimension 1, else each element one."""
    if call.name.removeprefix("new_") == "full" and isinstance(_argument(call, 1, "fill_value"), Tensor):
        raise UnsupportedOperatorError("it is filled with a computed number")
    shape = call.shape
    if all(size == 1 for size in shape[1:]) and len(shape) != 1:
        return neutral(shape)
    labels = _labels(call.state, shape)
    call.state.constants.append(Constant(call.node.name, _places(call), labels))
    return labels


def size_of(constant: Constant, sets: Tensor, state: PropagationState) -> Literal | None:
    """Return the edit that keeps a constant as wide as what it meets; None where it meets no channels.

    Args:
        sets: the set of each label.

    Raises:
        UnsupportedOperatorError: its channels lie along several dimensions.
    """
    dims = varying(sets[constant.labels])
    if len(dims) > 1:
        raise UnsupportedOperatorError("a constant does not hold its channels along one dimension")
    if not dims:
        return None
    return Literal(constant.node, constant.places[dims[0]], state.along(constant.labels, dims[0]))


def _labels(state: PropagationState, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 3:  # (N, tokens, channels) or (N, channels, length)
        if shape[1] * shape[2] > ELEMENTS:
            raise UnsupportedOperatorError("a constant is too large to be labelled element by element")
        return state.fresh(shape[1] * shape[2]).view(1, *shape[1:]).expand(shape)
    dim = min(1, len(shape) - 1)
    return spread(state.fresh(shape[dim]), dim, shape)


def _places(call: Call) -> tuple[Place, ...]:
    first = 1 if call.name.startswith("new_") else 0
    given: Any = call.node.args[first:]
    if not given:
        start: Place = ("size",)
    elif isinstance(given[0], (list, tuple)):
        start = (first,)
    elif isinstance(given[0], fx.Node) and isinstance(call.args[first], (torch.Size, tuple, list)):
        raise UnsupportedOperatorError("its size is computed as a whole")
    else:
        return tuple((first + i,) for i in range(len(call.shape)))
    if isinstance(call.written(start), fx.Node):
        raise UnsupportedOperatorError("its size is computed as a whole")
    return tuple((*start, i) for i in range(len(call.shape)))


def _argument(call: Call, position: int, name: str) -> Any:
    return call.argument(position + (1 if call.name.startswith("new_") else 0), name)
