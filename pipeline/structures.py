"""Structures of tensors: what a network takes, what it answers, and what it is to answer.

A network takes one tensor, or a tuple of them, one for each input. It answers with a tensor, or with tuples and
dictionaries of tensors. What it is to answer may be anything that a task understands; there a list holds one thing for
each example, while tuples and dictionaries hold parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
"""A batch as a network takes it; the first axis of each tensor counts the examples."""
Path: TypeAlias = tuple[str | int, ...]
"""Keys that lead to one tensor of a structure."""


def arguments(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return a batch as the arguments of a network's forward()."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def answer(network: Callable[..., Any], inputs: Inputs) -> Any:
    """Return what a network answers to a batch, as tensors in tuples and dictionaries."""
    return as_parts(network(*arguments(inputs)))


def as_parts(found: Any) -> Any:
    """Return an answer with its lists as tuples and its mappings as dictionaries: of an answer both hold parts.

    >>> as_parts([1, {"a": [2]}])
    (1, {'a': (2,)})
    """
    if isinstance(found, Mapping):
        return {key: as_parts(value) for key, value in found.items()}
    if isinstance(found, (tuple, list)):
        return tuple(as_parts(value) for value in found)
    return found


def count(inputs: Inputs) -> int:
    """Return the number of examples in a batch."""
    return len(arguments(inputs)[0])


def mapped(structure: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return a structure with ``function`` of each tensor in its place; what is no tensor stays."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, Mapping):
        return {key: mapped(value, function) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        values = [mapped(value, function) for value in structure]
        return values if isinstance(structure, list) else tuple(values)
    return structure


def tensors(structure: Any, path: Path = ()) -> dict[Path, Tensor]:
    """Return the tensors of a structure, in order, by the keys that lead to them.

    >>> list(tensors({"boxes": torch.zeros(2), "scores": (torch.zeros(1), torch.zeros(3))}))
    [('boxes',), ('scores', 0), ('scores', 1)]
    """
    if isinstance(structure, Tensor):
        return {path: structure}
    items: list[tuple[Any, Any]] = []
    if isinstance(structure, Mapping):
        items = list(structure.items())
    elif isinstance(structure, (tuple, list)):
        items = list(enumerate(structure))
    return {inner: part for key, value in items for inner, part in tensors(value, (*path, key)).items()}


def part(structure: Any, start: int, end: int) -> Any:
    """Return the examples from ``start`` up to ``end`` of a batch, or of what its examples are to be answered with."""
    if isinstance(structure, (Tensor, list)):
        return structure[start:end]
    if isinstance(structure, Mapping):
        return {key: part(value, start, end) for key, value in structure.items()}
    if isinstance(structure, tuple):
        return tuple(part(value, start, end) for value in structure)
    return structure


def joined(batches: Sequence[Any]) -> Any:
    """Return batches of one structure as one: tensors along their first axis, lists one after the other.

    Raises:
        ValueError: they are of different structure or shape.

    >>> joined([([1], torch.zeros(1, 2)), ([2, 3], torch.ones(1, 2))])
    ([1, 2, 3], tensor([[0., 0.],
            [1., 1.]]))
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    if any(type(batch) is not type(first) for batch in batches):
        kinds = ", ".join(sorted({type(batch).__name__ for batch in batches}))
        raise ValueError(f"batches are of different kinds: {kinds}")
    if isinstance(first, Tensor):
        if len({batch.shape[1:] for batch in batches}) > 1:
            shapes = " and ".join(str(tuple(batch.shape)) for batch in batches[:2])
            raise ValueError(f"batches are of shapes {shapes}; let a list hold what has another size in each example")
        return torch.cat(list(batches))
    if isinstance(first, list):
        return [value for batch in batches for value in batch]
    if isinstance(first, Mapping):
        return {key: joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple):
        return tuple(joined(parts) for parts in zip(*batches, strict=True))
    raise ValueError(f"batches hold a {type(first).__name__}; expected tensors, lists, tuples or dictionaries")


def named(path: Path) -> str:
    """Return what a file calls the tensor that some keys lead to.

    >>> named(("boxes",)), named((0, "scores")), named((1,))
    ('boxes', 'output_0_scores', 'output_1')
    """
    words = "_".join(map(str, path))
    return words if path and isinstance(path[0], str) else f"output_{words}".rstrip("_")
