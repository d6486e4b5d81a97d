"""Structure: what a Q-network decides on and how large it is; only networks that agree in it have a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import Annotated

from pydantic import Field

from pipeline import serialization
from pipeline.records import LEVELS, SearchSpace
from pipeline.search.dqn.policy_file import shapes_of

MOST_TEXT_BYTES = 1024**2
"""Of a structure as a site says it."""
MOST_NUMBERS = 16 * 1024**2
"""Weights of a network, 64 MB."""
_Name = Annotated[str, Field(max_length=200)]
_Size = Annotated[int, Field(ge=0, le=MOST_NUMBERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Equal at all sites; which of a group's levels are open may differ, as their boards do."""

    groups: tuple[tuple[_Name, _Size], ...]
    """Name and channels of each group of layers, in the order in which they are decided."""
    levels: tuple[int, ...]
    """Shares of a group's channels to cut, in percent: the network's actions."""
    tensors: Mapping[_Name, tuple[_Size, ...]]
    """Shape of each of the network's tensors by its name."""

    @property
    def numbers(self) -> int:
        """How many weights there are."""
        return sum(prod(shape) for shape in self.tensors.values())


def structure_of(policy: bytes, space: SearchSpace) -> Structure:
    """Return the structure of a policy file and of the space that it decides on.

    Raises:
        ValueError: it is not a policy file.
    """
    groups = tuple((group.name, group.channels) for group in space.groups)
    return Structure(groups=groups, levels=tuple(LEVELS), tensors=shapes_of(policy))


def structure_from(text: object) -> Structure:
    """Return the structure that a site says it has.

    Raises:
        ValueError: it is none, or of a network too large to be averaged.
    """
    if not isinstance(text, str) or len(text) > MOST_TEXT_BYTES:
        raise ValueError(f"its structure should be a text of at most {MOST_TEXT_BYTES // 1024} kB")
    found = serialization.load(Structure, serialization.from_text(text))
    if not 0 < found.numbers <= MOST_NUMBERS:
        raise ValueError(f"its network has {found.numbers} weights; at most {MOST_NUMBERS} are averaged")
    return found


def difference(own: Structure, wanted: Structure) -> str | None:
    """Return the first thing in which a site's structure is another than the federation's; None: they are equal."""
    for number, (here, there) in enumerate(zip_longest(own.groups, wanted.groups), start=1):
        if here != there:
            return f"group {number} of layers is {_group(here)}, the federation's is {_group(there)}"
    if own.levels != wanted.levels:
        return f"its levels are {own.levels}, the federation's {wanted.levels}"
    for name in sorted({*own.tensors, *wanted.tensors}):
        if own.tensors.get(name) != wanted.tensors.get(name):
            sizes = f"{_shape(own.tensors.get(name))}, the federation's is {_shape(wanted.tensors.get(name))}"
            return f"tensor {name} is {sizes}: other conditions of the data, or strategy_options (hidden)"
    return None


def _group(group: tuple[str, int] | None) -> str:
    return "none" if group is None else f"{group[0]} with {group[1]} channels"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " × ".join(map(str, shape))
