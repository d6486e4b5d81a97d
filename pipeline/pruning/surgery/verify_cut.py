"""Numerical check of a cut: the pruned network equals the masked network.

Which channels are coupled follows from rules, and a rule may be wrong about an operator of tomorrow. So before anything
is pruned, half of every group is cut at once: first the weights that read these channels are set to zero, then the
channels are cut. Both networks must give the same answers; where they do not, the groups at fault are found by halving.
So it is with blocks, those within blocks first: without them, the network answers as one that gets zeros from them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx

from pipeline import structures
from pipeline.errors import CutError
from pipeline.pruning.dependency.block_groups import home
from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.dependency.dependency_graph import DependencyGraph, dependency_graph
from pipeline.pruning.dependency.residual_blocks import Block
from pipeline.pruning.dependency.sums import as_written
from pipeline.pruning.surgery.prune import without
from pipeline.structures import Inputs

_TOLERANCE = 1e-3
"""Of what the channels contribute to the answers."""
_ROUNDING = 1e-5
"""Of the answers: float32's rounding over a deep network."""


def find_violations(network: fx.GraphModule, example: Inputs) -> dict[str, str]:
    """Return the groups that cannot be cut as they are thought to be coupled, with the reason; usually none."""
    known = dependency_graph(network, example)
    names = [name for name, group in known.groups.items() if group.units > 1]
    return _search(names, lambda some: _compare(network, known, some, structures.part(example, 0, 1)))


def disproved_blocks(network: fx.GraphModule, example: Inputs) -> dict[str, str]:
    """Return the blocks that cannot go as it is thought that they can, with the reason; usually none."""
    known, wrong = dependency_graph(network, example), dict[str, str]()
    left = [block for block in known.blocks if not block.separable]
    by_name = {block.name: block for block in left}
    while left:
        inner = [block for block in left if not any(other.within(block) for other in left)]
        wrong |= _search(
            [block.name for block in inner],
            lambda names: _compare_blocks(
                network, known, [by_name[name] for name in names], structures.part(example, 0, 1)
            ),
        )
        left = [block for block in left if block not in inner]
    return wrong


def _search(names: Sequence[str], compare: Callable[[Sequence[str]], None]) -> dict[str, str]:
    """Return those of some names with which ``compare`` raises CutError, and what it says."""
    if not names:
        return {}
    try:
        compare(names)
    except CutError as error:
        if len(names) == 1:
            return {names[0]: str(error)}
        half = len(names) // 2
        return {**_search(names[:half], compare), **_search(names[half:], compare)}
    return {}


def _compare(network: fx.GraphModule, known: DependencyGraph, names: Sequence[str], image: Inputs) -> None:
    """Cut half of each group at once; raise CutError unless the answers are those of the network that ignores it.

    Channels that others are normalised by change the answers when they go: of those only a network that runs is asked.
    """
    halves = {name: torch.arange(known.groups[name].units // 2) for name in names}
    exact = {name: half for name, half in halves.items() if name not in known.normalised}
    pruned = without(network, halves, (), image)
    if len(exact) < len(halves):
        pruned = without(network, exact, (), image)
    unread = copy.deepcopy(network)
    _stop_reading(unread, known.groups, exact)
    if not _agree(network, unread, pruned, image):
        raise CutError("cut, it gives another network than one that ignores its channels")


def _compare_blocks(network: fx.GraphModule, known: DependencyGraph, blocks: Sequence[Block], image: Inputs) -> None:
    """Take out blocks of which none lies within another; raise CutError unless zeros in their place answer alike."""
    gone = {
        name: torch.arange(group.units) for name, group in known.groups.items()
        if (block := home(group, known.blocks)) and any(block is b or block.within(b) for b in blocks)
    }  # fmt: skip
    inside = [other.name for other in known.blocks if any(other.within(block) for block in blocks)]
    pruned = without(network, gone, [*inside, *(block.name for block in blocks)], image)
    silent = copy.deepcopy(network)
    _stop_reading(silent, known.groups, {name: units for name, units in gone.items() if name not in known.own})
    for block in blocks:
        _silence(silent, block)
    silent.recompile()
    if not _agree(network, silent, pruned, image):
        raise CutError("without the block around it, the network is another than one that gets zeros from it")


def _agree(network: fx.GraphModule, ignoring: fx.GraphModule, cut: fx.GraphModule, image: Inputs) -> bool:
    """Return whether a cut network answers as one that ignores what was cut, by what that has a part in."""
    with torch.no_grad():
        answers = [structures.tensors(structures.answer(one, image)) for one in (network, ignoring, cut)]
    return all(_alike(*(answer[path] for answer in answers)) for path in answers[0])


def _alike(before: Tensor, expected: Tensor, found: Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    allowed = _TOLERANCE * (before - expected).abs().max() + _ROUNDING * expected.abs().max()
    return bool((found - expected).abs().max() <= allowed)


def _silence(network: fx.GraphModule, block: Block) -> None:
    """Put zeros in the place of what a block adds to a sum; what is concatenated is not read any more anyway."""
    if block.place is None:
        return
    node = next(node for node in network.graph.nodes if node.name == block.node)
    value = as_written(node)[block.place]
    reader = node if node in value.users else node.all_input_nodes[0]
    with network.graph.inserting_before(reader):
        zeros = network.graph.call_function(torch.zeros_like, (value,))
    reader.replace_input_with(value, zeros)


def _stop_reading(network: fx.GraphModule, groups: Mapping[str, Coupled], units: Mapping[str, Tensor]) -> None:
    """Set to zero the weights by which layers read the units."""
    weights = dict(network.named_parameters())
    for name, gone in units.items():
        for part in groups[name].slices:
            if part.role == "reads":
                positions = part.positions[torch.isin(part.units, gone)]
                with torch.no_grad():
                    weights[part.tensor].index_fill_(part.axis, positions, 0)
