"""Symbolic channel propagation: labels of channels, which are coupled, which are frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, fx

from pipeline.pruning.dependency.channel_sets import Role

NEUTRAL = -1
"""The label of values that no channel owns: constants, and results of what mixes all channels."""


class UnsupportedOperatorError(Exception):
    """A rule meets what it was not made for; the message says what. Its input channels are frozen then."""


ELEMENTS = 1 << 20
"""Of a weight or constant that are followed one by one at most."""

Edit = Callable[[fx.GraphModule, Callable[[Tensor], Tensor]], None]
"""Fixes a cut network's literals; is given which of some labels are still there, as booleans."""


@dataclass(slots=True)
class Axis:
    """Whose channels lie along one axis of a parameter or buffer."""

    labels: Tensor
    role: Role


Place: TypeAlias = tuple[int | str, ...]
"""Where a number is written among a node's arguments: positions and names, from the outermost inwards."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of one number: along which dimension its channels lie shows when others meet it."""

    node: str
    places: tuple[Place, ...]
    """Where each of its sizes is written."""
    labels: Tensor


@dataclass
class PropagationState:
    """Labels of one network: which are coupled, which are frozen, and along which axes of which weights they lie."""

    names: dict[int, str]
    """``id`` of each parameter and buffer → its first qualified name."""
    count: int = 0
    coupled: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    frozen: list[tuple[Tensor, str]] = field(default_factory=list)
    """Labels that have to stay → why."""
    axes: dict[tuple[str, int], Axis] = field(default_factory=dict)
    unattached: dict[str, Tensor] = field(default_factory=dict)
    """Parameters without a layer, such as a scale of its own: a label for each element until its axis shows."""
    constants: list[Constant] = field(default_factory=list)
    """Tensors that forward() makes, whose sizes are numbers in the graph."""
    normalised: list[Tensor] = field(default_factory=list)
    """Labels of channels that are scaled by one another: without some, the others' values change."""
    joined: dict[str, list[tuple[str, Tensor]]] = field(default_factory=dict)
    """Node of each concatenation along channels → the nodes that it joins, with their labels."""
    grouped: set[str] = field(default_factory=set)
    """Weights of convolutions in groups of several channels."""
    within: frozenset[str] = frozenset()
    """Those of them whose groups all stay and are cut alike: the same channels of each come and go together."""
    opaque: dict[str, str] = field(default_factory=dict)
    """Layers whose weights no rule has looked at → why."""
    unknown: set[str] = field(default_factory=set)
    """Reasons to stay that are an operator's which is not supported, not the network's own."""
    edits: list[Edit] = field(default_factory=list)

    def name(self, tensor: Tensor) -> str:
        """Return a weight's qualified name; raises UnsupportedOperatorError for one that the network computes."""
        if id(tensor) not in self.names:
            raise UnsupportedOperatorError("its weights are computed anew in every pass")
        return self.names[id(tensor)]

    def fresh(self, count: int) -> Tensor:
        """Return labels that nothing else has."""
        self.count += count
        return torch.arange(self.count - count, self.count)

    def couple(self, a: Tensor, b: Tensor) -> None:
        """Couple labels pair by pair: they go together; shapes broadcast."""
        a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
        apart = (a != b) & (a != NEUTRAL) & (b != NEUTRAL)
        if apart.any():
            self.coupled.append((a[apart], b[apart]))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Freeze labels: they have to stay."""
        small = compact(labels).flatten()
        if len(small := small[small != NEUTRAL]):
            self.frozen.append((small, reason))

    def note(self, tensor: Tensor | None, axis: int, labels: Tensor, role: Role) -> None:
        """Note whose channels lie along an axis of a weight; one that is used twice couples both uses."""
        if tensor is None:
            return
        known = self.axes.setdefault((self.name(tensor), axis), Axis(labels, role))
        self.couple(known.labels, labels)

    def made(self, tensor: Tensor, axis: int) -> Tensor:
        """Return the labels of the channels that a weight makes: new ones, or those of its earlier use."""
        key = (self.name(tensor), axis)
        if key not in self.axes:
            self.axes[key] = Axis(self.fresh(tensor.shape[axis]), "makes")
        return self.axes[key].labels

    def elements(self, tensor: Tensor) -> Tensor:
        """Return a label for each element of a parameter that meets channels element by element."""
        if tensor.numel() == 1:
            return torch.full(tensor.shape, NEUTRAL)
        if tensor.numel() > ELEMENTS:
            raise UnsupportedOperatorError("a weight is too large to be labelled element by element")
        name = self.name(tensor)
        if name not in self.unattached:
            self.unattached[name] = self.fresh(tensor.numel()).view(tensor.shape)
        return self.unattached[name]

    def along(self, labels: Tensor, dim: int) -> Tensor:
        """Return one label for each index of a dimension; labels within one index are coupled."""
        small = compact(labels).movedim(dim, 0)
        rows = small.expand(labels.shape[dim], *small.shape[1:]).reshape(labels.shape[dim], -1)
        first = rows.amax(1)
        self.couple(first[:, None], rows)
        return first


def compact(labels: Tensor) -> Tensor:
    """Return the labels with one index left of each dimension that was expanded.

    >>> compact(torch.arange(3).view(1, 3, 1, 1).expand(1, 3, 8, 8)).shape
    torch.Size([1, 3, 1, 1])
    """
    for dim, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[dim] > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def spread(along: Tensor, dim: int, shape: tuple[int, ...]) -> Tensor:
    """Return labels of a tensor's ``shape`` that vary along one dimension alone.

    >>> spread(torch.tensor([4, 5]), 1, (1, 2, 2))
    tensor([[[4, 4],
             [5, 5]]])
    """
    dim %= len(shape)
    return along.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(shape)


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which labels differ.

    >>> varying(torch.tensor([[1, 1], [2, 2]]))
    [0]
    """
    small = compact(labels)
    return [d for d in range(small.dim()) if small.shape[d] > 1 and bool((small != small.narrow(d, 0, 1)).any())]
