"""The surgery: take channels and blocks out of a traced network, and check that what is left is what was planned."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch_pruning as tp
from torch import Tensor, fx, nn

from pipeline.errors import CutError, first_line
from pipeline.pruning.blocks import remove_blocks
from pipeline.pruning.tracing import propagate_shapes, shape
from pipeline.records import Group, SearchSpace

Ranking = Mapping[str, Tensor]
"""Group name → channel indices, the least important first."""


def prune(
    model: fx.GraphModule, space: SearchSpace, levels: tuple[int, ...], ranking: Ranking, example: Tensor
) -> fx.GraphModule:
    """Return a pruned copy of ``model`` after a plan's ``levels``.

    Raises:
        CutError: a level is not legal, or the result is not the network that was planned.
    """
    for group, level in zip(space.groups, levels, strict=True):
        if level not in group.kept:
            raise CutError(f"{group.name}: level {level} is not legal here: {_why_illegal(group, level, space.step)}")
    kept = {g.name: k for g, k in zip(space.groups, space.kept(levels), strict=True)}
    return cut(model, space, kept, ranking, example)


def cut(
    model: fx.GraphModule, space: SearchSpace, kept: Mapping[str, int], ranking: Ranking, example: Tensor
) -> fx.GraphModule:
    """Return a copy of ``model`` whose groups keep the given numbers of channels; 0 removes the group's block.

    Raises:
        CutError: the copy does not run, answers in another shape or not finitely, or has other widths than planned.
    """
    pruned = copy.deepcopy(model)
    gone = frozenset(g.bypass for g in space.groups if kept[g.name] == 0 and g.bypass is not None)
    if unbridged := [g.name for g in space.groups if kept[g.name] == 0 and g.bypass is None]:
        raise CutError(f"{unbridged[0]}: all channels would go and there is no shortcut around them")
    if gone:
        remove_blocks(pruned, gone)
    narrowed = [g for g in space.groups if 0 < kept[g.name] < g.channels]
    if narrowed:
        graph = dependency_graph(pruned, example)
        for group in narrowed:
            surplus = ranking[group.name][: group.channels - kept[group.name]].tolist()
            coupled(graph, _surviving_root(pruned, group), surplus).prune()
    check(pruned, model, {layer: kept[g.name] for g in space.groups for layer in g.layers}, example)
    return pruned


def dependency_graph(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """Return torch-pruning's dependency graph of ``model``; raise CutError where it cannot follow the channels."""
    try:
        with torch.enable_grad():  # it follows the gradients' graph
            return tp.DependencyGraph().build_dependency(model, example_inputs=example)
    except Exception as error:  # its index arithmetic raises whatever it runs into
        raise CutError(f"torch-pruning cannot follow this network's channels: {first_line(error)}") from error


def coupled(graph: tp.DependencyGraph, root: nn.Module, indices: list[int]) -> tp.Group:
    """Return what goes together with output channels ``indices`` of ``root``; its ``prune()`` cuts in place."""
    group = graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, idxs=indices)
    if not graph.check_pruning_group(group):
        raise CutError(f"cutting {len(indices)} channels would leave a layer with none")
    return group


def check(pruned: fx.GraphModule, base: fx.GraphModule, widths: Mapping[str, int], example: Tensor) -> None:
    """Raise CutError unless ``pruned`` runs, answers as ``base`` does in shape, finitely, with ``widths`` as planned.

    torch-pruning cuts some structures wrongly without a word (channel shuffle, parameter-free shortcuts, rounding
    beyond a layer's width, a ratio of one); nothing leaves this module unchecked.

    Args:
        widths: output channels planned for each layer; layers of removed blocks are passed over.
    """
    layers = dict(pruned.named_modules())
    for name, planned in widths.items():
        if name in layers and (found := width(layers[name])) != planned:
            raise CutError(f"{name} has {found} channels after the cut, planned were {planned}")
    try:
        answer = propagate_shapes(pruned, example)
    except Exception as error:  # whatever a network raises whose layers no longer fit together
        cause = first_line(error.__cause__ or error)
        raise CutError(f"the network does not run after the cut: {cause}") from error
    expected = _answer_shape(base, len(example))
    if not isinstance(answer, Tensor) or tuple(answer.shape) != expected:
        raise CutError(f"the output's shape changed from {expected} to {tuple(getattr(answer, 'shape', ()))}")
    if not torch.isfinite(answer).all():
        raise CutError("the network's answers are not finite after the cut")


def width(layer: nn.Module) -> int:
    """Return the output channels of a convolution or linear layer, counted in its weights."""
    channels: int = layer.weight.shape[0]  # type: ignore[index,assignment]
    return channels


def _why_illegal(group: Group, level: int, step: int) -> str:
    legal = f"legal levels: {', '.join(map(str, group.levels))}"
    if level == 100:
        return f"there is no shortcut around it; {legal}"
    return f"rounded up to steps of {step} of its {group.channels} channels it saves nothing more; {legal}"


def _surviving_root(network: fx.GraphModule, group: Group) -> nn.Module:
    """Return a layer that makes all of the group's channels; the first may have gone with its block."""
    layers = dict(network.named_modules())
    found = (layers[name] for name in (group.name, *group.layers) if name in layers)
    root: nn.Module | None = next((layer for layer in found if width(layer) == group.channels), None)
    if root is None:
        raise CutError(f"{group.name}: all layers that make its channels went with the removed blocks")
    return root


def _answer_shape(base: fx.GraphModule, images: int) -> tuple[int, ...]:
    answer = next(node for node in base.graph.nodes if node.op == "output").args[0]
    known = shape(answer) if isinstance(answer, fx.Node) else None
    assert known is not None  # trace() has written it
    return (images, *known[1:])
