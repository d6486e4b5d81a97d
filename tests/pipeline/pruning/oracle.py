"""Is a cut network the right one? Found without asking the cutter what it did.

All values of a weight differ, so the weights of a cut network say by themselves which indices are left; the uncut
network with zeros at all others must answer alike.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter

import torch
from torch import Tensor, fx, nn

from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.surgery.prune import Ranking
from pipeline.records import SearchSpace
from tests.pipeline.pruning.networks import lively


def plan(space: SearchSpace, kind: str) -> tuple[int, ...]:
    """Each group's level nearest to what ``kind`` asks for: 25, 50, 75, mixed (25, 75, 50 in turns), or 100."""
    turns = itertools.cycle((25, 75, 50) if kind == "mixed" else (int(kind),))
    return tuple(_nearest(group.levels, wanted) for group, wanted in zip(space.groups, turns, strict=False))


def _nearest(levels: tuple[int, ...], wanted: int) -> int:
    return min(levels, key=lambda level: abs(level - wanted))


def at_random(space: SearchSpace) -> Ranking:
    """A ranking without an order that a cut could get right by luck."""
    generator = torch.Generator().manual_seed(3)
    return {group.name: torch.randperm(group.units, generator=generator) for group in space.groups}


def distinct(model: nn.Module) -> nn.Module:
    """Give all values of each weight values of their own, as large as a trained network's."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            places = torch.randperm(parameter.numel(), generator=generator).view_as(parameter)
            bound = (3 / parameter[0].numel()) ** 0.5
            parameter.data = bound * (2 * (places + 0.5) / parameter.numel() - 1)
    return lively(model)


def survivors(before: Tensor, after: Tensor) -> list[Tensor]:
    """Return for each axis which indices of ``before`` are left in ``after``, found by value.

    The first value that is left says through which place of ``before`` the lines lie on which the others are looked up.
    """
    first = (before == after.flatten()[0]).nonzero()
    assert len(first) == 1, "a value that was not there before, or was there twice"
    left = [_places(_line(before, axis, first[0]), _line(after, axis)) for axis in range(before.dim())]
    assert all((indices.diff() > 0).all() for indices in left), "indices were cut crosswise or reordered"
    assert torch.equal(before[torch.meshgrid(*left, indexing="ij")], after), "indices were cut crosswise or reordered"
    return left


def _line(tensor: Tensor, axis: int, place: Tensor | None = None) -> Tensor:
    """Return the values along an axis through a place, or through the first one."""
    through: list[int | slice] = [0] * tensor.dim() if place is None else place.tolist()
    through[axis] = slice(None)
    return tensor[tuple(through)]


def _places(values: Tensor, wanted: Tensor) -> Tensor:
    """Return where each wanted value stands."""
    ordered, order = values.sort()
    found = torch.searchsorted(ordered, wanted.contiguous()).clamp(max=len(values) - 1)
    assert torch.equal(ordered[found], wanted), "a value that was not there before, or was cut crosswise"
    return order[found]


def silenced(base: fx.GraphModule, pruned: fx.GraphModule) -> fx.GraphModule:
    """Return the uncut network with zeros wherever ``pruned`` has nothing left."""
    masked, left = copy.deepcopy(base), pruned.state_dict()
    for name, tensor in masked.named_parameters():
        if name not in left:
            tensor.data.zero_()
        elif tensor.dim() > 1:
            for axis, kept in enumerate(survivors(tensor.data, left[name])):
                gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
                gone[kept] = False
                tensor.data.index_fill_(axis, gone.nonzero().flatten(), 0)
    return masked


def require_widths(
    base: fx.GraphModule, pruned: nn.Module, space: SearchSpace, levels: tuple[int, ...], images: Tensor
) -> None:
    """Every layer that is left has lost what its groups have lost; a layer may be in several, and hold units twice.

    Groups that only say whether a block goes are passed over: a depthwise layer loses what it scales.
    """
    known = dependency_graph(base, images)
    lost = Counter[str]()
    counted = [(g, kept) for g, kept in zip(space.groups, space.kept(levels), strict=True) if g.name not in known.own]
    for group, kept in counted:
        for part in known.groups[group.name].slices:
            if part.role == "makes" and not part.tensor.endswith("bias"):
                a_unit = len(part.positions) // group.units
                lost[part.tensor.removesuffix(".weight")] += a_unit * (group.channels - kept) // group.width
    assert set(lost) >= {group.name.partition("#")[0] for group, _ in counted}
    for layer, channels in lost.items():
        if (found := width(pruned, layer)) is not None:
            assert found == width(base, layer) - channels, layer


def width(network: nn.Module, layer: str) -> int | None:
    """Return the output channels of a layer, or of a parameter that serves as one; None: it is gone."""
    state = network.state_dict()
    if layer in state:
        return len(state[layer])
    if f"{layer}.weight" not in state:
        return None
    transposed = isinstance(network.get_submodule(layer), nn.ConvTranspose2d)
    return state[f"{layer}.weight"].shape[1 if transposed else 0]


def require_all_listed(space: SearchSpace) -> None:
    touched = {layer for group in space.groups for layer in (*group.layers, *group.makes, *group.reads)}
    assert set(space.layer_macs) <= touched | set(space.refused)
    for name, why in space.refused.items():
        whole = space.layer_macs.get(name.partition("#")[0], 0)
        assert space.refused_macs[name] <= whole if "some of its channels" in why else space.refused_macs[name] == whole
