"""Edits of a cut network: numbers that stand in its graph or its modules and count channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

Alive = Callable[[Tensor], Tensor]
"""Labels → whether each is still there."""


@dataclass(frozen=True, eq=False)
class Literal:
    """A number among a node's arguments: as many as are left of some labels."""

    node: str
    place: tuple[int | str, ...]
    labels: Tensor

    def __call__(self, network: fx.GraphModule, alive: Alive) -> None:
        """Write the number."""
        if (node := _node(network, self.node)) is not None:
            _write(node, self.place, int(alive(self.labels).sum()))


@dataclass(frozen=True, eq=False)
class Attribute:
    """A number that a module keeps."""

    module: str
    name: str
    labels: Tensor
    index: int | None = None
    """In a tuple; None: the number stands alone."""

    def __call__(self, network: fx.GraphModule, alive: Alive) -> None:
        """Write the number."""
        try:
            module = network.get_submodule(self.module)
        except AttributeError:
            return  # went with its block
        count: Any = int(alive(self.labels).sum())
        if self.index is not None:
            old = getattr(module, self.name)
            count = (*old[: self.index], count, *old[self.index + 1 :])
        setattr(module, self.name, count)


@dataclass(frozen=True, eq=False)
class Pieces:
    """A split or chunk along channels: becomes a split into the sizes that are left."""

    node: str
    dim: int
    labels: Sequence[Tensor]

    def __call__(self, network: fx.GraphModule, alive: Alive) -> None:
        """Write the sizes."""
        if (node := _node(network, self.node)) is None:
            return
        sizes = [int(alive(piece).sum()) for piece in self.labels]
        node.target = "split" if node.op == "call_method" else torch.split
        node.args, node.kwargs = (node.all_input_nodes[0], sizes), {"dim": self.dim}


@dataclass(frozen=True, eq=False)
class Bounds:
    """A slice along channels: begins and ends after as many as are left before."""

    node: str
    position: int
    """Of the slice in the index."""
    before: Tensor
    """Labels before the slice."""
    within: Tensor

    def __call__(self, network: fx.GraphModule, alive: Alive) -> None:
        """Write the bounds."""
        if (node := _node(network, self.node)) is None:
            return
        start = int(alive(self.before).sum())
        index: Any = node.args[1]
        moved = slice(start, start + int(alive(self.within).sum()))
        if isinstance(index, tuple):
            moved_index: Any = (*index[: self.position], moved, *index[self.position + 1 :])
        else:
            moved_index = moved
        node.args = (node.args[0], moved_index)


def _node(network: fx.GraphModule, name: str) -> fx.Node | None:
    return next((n for n in network.graph.nodes if n.name == name), None)


def _write(node: fx.Node, place: tuple[int | str, ...], value: int) -> None:
    first, *rest = place
    if isinstance(first, int):
        node.args = _with(node.args, (first, *rest), value)
    else:
        node.kwargs = {**node.kwargs, first: _with(node.kwargs[first], tuple(rest), value)}


def _with(structure: Any, place: tuple[int | str, ...], value: int) -> Any:
    if not place:
        return value
    index = int(place[0])
    return (*structure[:index], _with(structure[index], place[1:], value), *structure[index + 1 :])
