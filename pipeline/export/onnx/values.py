"""Values of operations: tensors, numbers, or tuples of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor
from torch.fx.node import map_aggregate

Leaf = TypeVar("Leaf")


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that the file computes or holds."""

    name: str
    tensor: Tensor
    """Of the device "meta", or with values where it does not depend on the image."""


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested tuples with ``function`` of each leaf in its place."""
    return map_aggregate(value, function)


def leaves(value: Any, kind: type[Leaf]) -> list[Leaf]:
    """Return what is of one kind in nested tuples, in order.

    >>> leaves((1, ("a", 2), {"b": 3}), int)
    [1, 2, 3]
    """
    found: list[Leaf] = []
    mapped(value, lambda leaf: found.append(leaf) if isinstance(leaf, kind) else None)
    return found
