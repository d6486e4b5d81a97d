"""Whose level says whether a block goes: groups whose channels all go with it, or one that stands for the block."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled, Couplings, Slice, free_name, makers, owner
from pipeline.pruning.dependency.propagation.labels import PropagationState
from pipeline.pruning.dependency.residual_blocks import Block


def home(coupled: Coupled, blocks: Iterable[Block]) -> Block | None:
    """Return the innermost of ``blocks`` that all of a group's channels go with; None: some are needed beyond each."""
    made, tensors = set(makers(coupled)), {part.tensor for part in coupled.slices}
    return next((b for b in blocks if made <= b.layers and (b.place is None or _hold(b, tensors))), None)


def _hold(block: Block, tensors: Iterable[str]) -> bool:
    return all(tensor in block.holds or owner(tensor) in block.holds for tensor in tensors)


def own_groups(
    blocks: Iterable[Block],
    groups: Couplings,
    axes: dict[tuple[str, int], Tensor],
    order: dict[str, int],
    state: PropagationState,
) -> list[Coupled]:
    """Return a group of one unit for each block with no group of its own, by whose level it goes."""
    blocks, found = tuple(blocks), list[Coupled]()
    said = {block.name for coupled in groups.values() if (block := home(coupled, blocks))}
    taken = set(groups)
    for block in blocks:
        inner = frozenset[str]().union(*(other.layers for other in blocks if other.within(block)))
        layers = block.layers - inner or block.layers
        parts = [
            _as_one(key, axes[key]) for key in sorted(axes, key=lambda key: (order[key[0]], key))
            if state.axes[key].role != "reads" and owner(key[0]) in layers
        ]  # fmt: skip
        if parts and not block.separable and block.name not in said:
            name = free_name(parts[0], taken)
            taken.add(name)
            found.append(Coupled(name, 1, tuple(parts)))
    return found


def _as_one(key: tuple[str, int], sets: Tensor) -> Slice:
    """Return an axis of a weight as made by one unit."""
    every = torch.arange(len(sets))
    return Slice(*key, "makes", every, torch.zeros_like(every))
