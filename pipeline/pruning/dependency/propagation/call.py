"""One operator of a traced network as the rules see it: its arguments, their labels, its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.pruning.dependency.propagation.labels import NEUTRAL, PropagationState, UnsupportedOperatorError


class WholeWeight:
    """A weight without labels until a rule needs one for each of its elements."""


@dataclass(frozen=True)
class Call:
    """An operator that is applied."""

    name: str
    """Of the function, method or module class, without the underscores that mark in-place and inner variants."""
    node: fx.Node
    module: nn.Module | None
    args: tuple[Any, ...]
    """As they are: tensors, numbers, tuples."""
    kwargs: dict[str, Any]
    marks: tuple[Any, ...]
    """The labels of ``args``, in the same structure; None for what is no tensor."""
    keyword_marks: dict[str, Any]
    result: Any
    state: PropagationState

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def place(self, position: int, name: str) -> tuple[int | str, ...]:
        """Return where an argument stands in the node, for an edit."""
        return (position,) if len(self.args) > position else (name,)

    def written(self, place: tuple[int | str, ...]) -> Any:
        """Return an argument as it is written in the graph: a number, or the node that computes it."""
        found: Any = self.node.args if isinstance(place[0], int) else self.node.kwargs
        for step in place:
            found = found[step]
        return found

    def value_of(self, node: fx.Node) -> Any:
        """Return the parameter or buffer that a node of the graph stands for."""
        found: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found

    @property
    def labels(self) -> Tensor:
        """The first argument's labels."""
        first = next(iter([*self.marks, *self.keyword_marks.values()]), None)
        if not isinstance(first, Tensor):
            raise UnsupportedOperatorError(f"{self.name} of a weight is not supported")
        return first

    def resolved(self) -> Call:
        """Return the call with a label for each element of the weights among its arguments."""
        marks, keyword_marks = (_resolved(self.state, *pair) for pair in
                                ((self.args, self.marks), (self.kwargs, self.keyword_marks)))  # fmt: skip
        return replace(self, marks=marks, keyword_marks=keyword_marks)

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return tuple(self.result.shape)

    def tensors(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each tensor among the arguments with its labels."""
        yield from _pairs([*self.args, *self.kwargs.values()], [*self.marks, *self.keyword_marks.values()])


def neutral(shape: tuple[int, ...]) -> Tensor:
    """Return labels of what no channel owns."""
    return torch.full((), NEUTRAL).expand(shape)


def _pairs(values: Any, marks: Any) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(values, Tensor):
        if isinstance(marks, Tensor):
            yield values, marks
    elif isinstance(values, (list, tuple)) and isinstance(marks, (list, tuple)):
        for value, mark in zip(values, marks, strict=True):
            yield from _pairs(value, mark)
    elif isinstance(values, dict) and isinstance(marks, dict):
        for key, value in values.items():
            yield from _pairs(value, marks[key])


def _resolved(state: PropagationState, values: Any, marks: Any) -> Any:
    if isinstance(marks, WholeWeight):
        return state.elements(values)
    if isinstance(marks, dict):
        return {key: _resolved(state, values[key], mark) for key, mark in marks.items()}
    if isinstance(marks, (list, tuple)) and isinstance(values, (list, tuple)):
        return tuple(_resolved(state, v, m) for v, m in zip(values, marks, strict=True))
    return marks
