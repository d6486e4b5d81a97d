"""Channel dependency graph: coupled channels as groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx

from pipeline.pruning.dependency.block_groups import own_groups
from pipeline.pruning.dependency.channel_sets import Coupled, Couplings, Slice, free_name, owner
from pipeline.pruning.dependency.channel_sets import makers as makers_of
from pipeline.pruning.dependency.propagation import Edit, PropagationState, propagate
from pipeline.pruning.dependency.propagation.constants import size_of
from pipeline.pruning.dependency.propagation.labels import Axis, UnsupportedOperatorError, varying
from pipeline.pruning.dependency.residual_blocks import Block, branches, distinct, residual_blocks
from pipeline.structures import Inputs

_KEY = "coupling"


@dataclass(frozen=True, eq=False)
class DependencyGraph:
    """The channel dependency graph of one network."""

    groups: Couplings
    refused: dict[str, str]
    """Layers none of whose channels can go → why."""
    unknown: frozenset[str]
    """Those of the reasons that are an operator's which is not supported: another recording may cure it."""
    stays: dict[int, str] = field(repr=False)
    """Sets that have to stay → why."""
    normalised: frozenset[str]
    """Groups whose channels are scaled by one another: without some, the others' values change."""
    makers: dict[str, tuple[str, ...]]
    """Group → every layer that makes its channels, in forward order; of a block's own group, what goes with it."""
    blocks: tuple[Block, ...]
    """What can go as a whole, inner blocks before those around them."""
    own: frozenset[str]
    """Groups that only say whether a block goes: one unit each, for blocks none of whose channels are theirs alone."""
    joined: frozenset[str]
    """Groups that make a branch of a concatenation."""
    axes: dict[tuple[str, int], Tensor] = field(repr=False)
    """Axes of weights → the set, of all units of the network, that each position belongs to."""
    sets: dict[str, Tensor] = field(repr=False)
    """Group → the set of each of its units."""
    edits: tuple[Edit, ...] = field(repr=False)
    set_of: Tensor = field(repr=False)
    """Label → its set."""

    def __deepcopy__(self, _: object) -> DependencyGraph:
        """Return itself: nothing in it changes, and copies of its network are made for every candidate."""
        return self


def dependency_graph(network: fx.GraphModule, example: Inputs) -> DependencyGraph:
    """Return the channel dependency graph of a traced network; kept with the network, whose weights do not matter."""
    if _KEY not in network.meta:
        network.meta[_KEY] = _built(network, example)
    known: DependencyGraph = network.meta[_KEY]
    return known


def forget(network: fx.GraphModule) -> None:
    """Drop what was known of a network that is about to be changed."""
    network.meta = {key: value for key, value in network.meta.items() if key != _KEY}


def _built(network: fx.GraphModule, example: Inputs) -> DependencyGraph:
    """Return the dependency graph; grouped convolutions none of whose groups can go are cut within these.

    So split attention can be cut, which adds its groups up (Zhang et al., "ResNeSt", 2020): none of them goes alone.
    """
    state = propagate(network, example)
    known = _grouped(network, state)
    if not (stuck := _stuck(known, state)):
        return known
    state = propagate(network, example, within=stuck)
    other = _grouped(network, state)
    return other if _stuck(other, state) < stuck else known


def _stuck(known: DependencyGraph, state: PropagationState) -> frozenset[str]:
    """Return the grouped weights whose channels all stay, or only go together."""
    free = {part.tensor for group in known.groups.values() if group.units > 1 for part in group.slices}
    return frozenset(state.grouped - free)


def _grouped(network: fx.GraphModule, state: PropagationState) -> DependencyGraph:
    sets = _attach_axes(state)
    reasons = _frozen(state, sets)
    axes = {key: sets[axis.labels] for key, axis in state.axes.items()}
    order = _forward_order(network, state.axes)
    members = _members(axes, state, order, reasons)
    groups = {coupled.name: coupled for coupled in _groups(members, axes, order, state)}
    makers = {name: makers_of(coupled) for name, coupled in groups.items()}
    by_name = dict(zip(groups, members, strict=True))
    blocks = _blocks(network, state, sets, by_name, makers)
    refused = _refused(state, axes, reasons, makers)
    own = own_groups(blocks, groups, axes, order, state)
    for coupled in own:
        groups[coupled.name], makers[coupled.name] = coupled, makers_of(coupled)
    return DependencyGraph(
        groups=groups,
        refused=refused,
        unknown=frozenset(state.unknown),
        stays=reasons,
        normalised=_holding(by_name, state.normalised, sets),
        makers=makers,
        blocks=blocks,
        own=frozenset(coupled.name for coupled in own),
        joined=_holding(by_name, (along for parts in state.joined.values() for _, along in parts), sets),
        axes=axes,
        sets=by_name | {coupled.name: torch.zeros(1, 0, dtype=torch.int64) for coupled in own},
        edits=tuple(state.edits),
        set_of=sets,
    )


def _sets(state: PropagationState) -> Tensor:
    """Return the set of each label: coupled labels are in one."""
    nothing = torch.zeros(0, dtype=torch.int64)
    a = torch.cat([nothing, *(a for a, _ in state.coupled)]).numpy()
    b = torch.cat([nothing, *(b for _, b in state.coupled)]).numpy()
    edges = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(state.count, state.count))
    return torch.from_numpy(connected_components(edges, directed=False)[1].astype(np.int64))


def _attach_axes(state: PropagationState) -> Tensor:
    """Note along which axis each unattached parameter has its channels; freeze what has several. Return the sets."""
    sets = _sets(state)
    for name, labels in state.unattached.items():
        dims = varying(sets[labels])
        if len(dims) == 1:
            state.axes[name, dims[0]] = Axis(state.along(labels, dims[0]), "scales")
        elif dims:
            state.freeze(labels, f"{name} does not hold its channels along one axis")
    for constant in state.constants:
        try:
            edit = size_of(constant, sets, state)
        except UnsupportedOperatorError as error:
            state.freeze(constant.labels, str(error))
        else:
            state.edits.extend([edit] if edit else [])
    return sets


def _frozen(state: PropagationState, sets: Tensor) -> dict[int, str]:
    """Return the sets that have to stay, with the first reason."""
    reasons: dict[int, str] = {}
    for labels, reason in state.frozen:
        for one in set(sets[labels].tolist()):
            reasons.setdefault(one, reason)
    return reasons


def _forward_order(network: fx.GraphModule, axes: dict[tuple[str, int], Axis]) -> dict[str, int]:
    """Return each weight's place in the forward pass."""
    order: dict[str, int] = {}
    for place, node in enumerate(network.graph.nodes):
        if node.op in ("call_module", "get_attr"):
            order.setdefault(str(node.target), place)
    return {tensor: order.get(tensor, order.get(owner(tensor), len(order))) for tensor, _ in axes}


def _members(
    axes: dict[tuple[str, int], Tensor], state: PropagationState, order: dict[str, int], frozen: Iterable[int]
) -> list[Tensor]:
    """Return each group's sets: those that lie equally often in the same weights; none that stays or nothing makes."""
    signature, first = _signatures(axes, order)
    stays = np.ones(len(signature), dtype=bool)
    for key, sets in axes.items():
        stays[sets.numpy()] &= state.axes[key].role != "makes"
    stays[[p for p in frozen if p < len(stays)]] = True
    alike: dict[int, list[int]] = {}
    for unit in np.lexsort((first[:, 1], first[:, 0])):
        if not stays[unit]:
            alike.setdefault(int(signature[unit]), []).append(int(unit))
    return [torch.tensor(units) for units in alike.values()]


def _signatures(
    axes: dict[tuple[str, int], Tensor], order: dict[str, int]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return for each set a number that says how often it lies in which weights, and where it lies first.

    The number is a sum of one random odd number a weight, so that sets that lie alike have the same.
    """
    count = 1 + max((int(sets.max()) for sets in axes.values()), default=-1)
    signature, nowhere = np.zeros(count, dtype=np.uint64), np.iinfo(np.int64).max
    first, draw = np.full((count, 2), nowhere), np.random.RandomState(0)
    for (tensor, _), sets in sorted(axes.items(), key=lambda item: (order[item[0][0]], item[0])):
        weight = np.frombuffer(draw.bytes(8), np.uint64)[0] | np.uint64(1)
        units, positions, counts = np.unique(sets.numpy(), return_index=True, return_counts=True)
        with np.errstate(over="ignore"):
            signature[units] += weight * counts.astype(np.uint64)
        new = first[units, 0] == nowhere
        first[units[new], 0], first[units[new], 1] = order[tensor], positions[new]
    return signature, first


def _groups(
    members: list[Tensor], axes: dict[tuple[str, int], Tensor], order: dict[str, int], state: PropagationState
) -> list[Coupled]:
    """Return each group with its slices, named for the first layer that makes its channels."""
    count = 1 + max((int(sets.max()) for sets in axes.values()), default=-1)
    group_of, unit_of = torch.full((count,), -1), torch.zeros(count, dtype=torch.int64)
    for group, units in enumerate(members):
        group_of[units], unit_of[units] = group, torch.arange(len(units))
    slices: list[list[Slice]] = [[] for _ in members]
    for (tensor, axis), sets in sorted(axes.items(), key=lambda item: (order[item[0][0]], item[0])):
        role, groups = state.axes[tensor, axis].role, group_of[sets]
        for group in sorted(set(groups[groups >= 0].tolist())):
            positions = torch.nonzero(groups == group).flatten()
            slices[group].append(Slice(tensor, axis, role, positions, unit_of[sets[positions]]))
    named: dict[str, Coupled] = {}
    for units, parts in zip(members, slices, strict=True):
        name = free_name(next((s for s in parts if s.role == "makes"), parts[0]), named)
        named[name] = Coupled(name, len(units), tuple(parts))
    return list(named.values())


def _blocks(
    network: fx.GraphModule,
    state: PropagationState,
    sets: Tensor,
    units: dict[str, Tensor],
    makers: dict[str, tuple[str, ...]],
) -> tuple[Block, ...]:
    """Return what can go as a whole: a branch of a concatenation only where it alone makes its channels."""
    joined = {cat: [name for name, _ in parts] for cat, parts in state.joined.items()}
    labels = {name: along for parts in state.joined.values() for name, along in parts}
    made_in = {s: set(makers[group]) for group, members in units.items() for s in members.tolist()}
    own = [
        block for block in branches(network, joined)
        if all(made_in.get(s, {""}) <= block.layers for s in sets[labels[block.name]].tolist())
    ]  # fmt: skip
    return distinct([*residual_blocks(network), *own])


def _holding(units: dict[str, Tensor], labels: Iterable[Tensor], sets: Tensor) -> frozenset[str]:
    """Return the groups that hold any of some labels."""
    wanted = {s for some in labels for s in sets[some].tolist()}
    return frozenset(name for name, members in units.items() if not wanted.isdisjoint(members.tolist()))


def _refused(
    state: PropagationState,
    axes: dict[tuple[str, int], Tensor],
    reasons: dict[int, str],
    makers: dict[str, tuple[str, ...]],
) -> dict[str, str]:
    """Return the layers all of whose channels stay, and why."""
    cuttable = {layer for layers in makers.values() for layer in layers}
    refused = dict(state.opaque)
    for key, axis in state.axes.items():
        layer = owner(key[0])
        if axis.role == "makes" and layer not in cuttable and key[0].endswith("weight"):
            why = [reasons[s] for s in axes[key].tolist() if s in reasons]
            refused.setdefault(layer, why[0] if why else "nothing reads its channels")
    return refused
