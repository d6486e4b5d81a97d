"""Coupled channels: slices of many tensors that are cut together, as sets of units that go one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Role = Literal["makes", "scales", "reads"]
"""What a slice does with a channel: a layer's filters make it, a norm scales it, the next layer's weights read it."""


def owner(tensor: str) -> str:
    """Return the layer that a parameter belongs to.

    >>> owner("layer1.0.conv1.weight"), owner("scale")
    ('layer1.0.conv1', 'scale')
    """
    return tensor.rpartition(".")[0] or tensor


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Where a group's units lie along one axis of one parameter or buffer."""

    tensor: str
    """Qualified name, as in ``state_dict``: ``layer1.0.conv1.weight``."""
    axis: int
    role: Role
    positions: Tensor
    """Positions along the axis that belong to the group, int64, ascending."""
    units: Tensor
    """The unit that each of these positions belongs to, int64, as long as ``positions``."""


@dataclass(frozen=True, slots=True, eq=False)
class Coupled:
    """A group of channels as it stands in a network: removing a unit removes all of its positions in every slice."""

    name: str
    """The root layer: the first in forward order that makes these channels."""
    units: int
    """How many can go one by one. One is one channel of the root layer, or several that are coupled."""
    slices: tuple[Slice, ...]

    def total(self, part: Slice, values: Tensor) -> Tensor:
        """Return the sum over each unit's positions of ``values``, one a position along the slice's axis; (units,).

        >>> part = Slice("fc.weight", 1, "reads", torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1]))
        >>> Coupled("conv", 2, (part,)).total(part, torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([3., 7.])
        """
        summed = torch.zeros(self.units, dtype=values.dtype)
        return summed.index_add_(0, part.units, values[part.positions])


def makers(coupled: Coupled) -> tuple[str, ...]:
    """Return every layer that makes a group's channels, in forward order."""
    return tuple(dict.fromkeys(owner(s.tensor) for s in coupled.slices if s.role == "makes"))


def free_name(root: Slice, taken: Iterable[str]) -> str:
    """Return the root layer's name; a second group of the same layer is ``name#2``."""
    layer, again = owner(root.tensor), 2
    name = layer
    while name in taken:
        name, again = f"{layer}#{again}", again + 1
    return name


Couplings = Mapping[str, Coupled]
"""Groups by name, in forward order."""
