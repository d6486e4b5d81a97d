"""The surgery: take channels and blocks out of a traced network, and check that what is left is what was planned."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch_pruning as tp
from torch import Tensor, fx, nn

from pipeline.errors import CutError
from pipeline.pruning.blocks import remove_blocks
from pipeline.records import SearchSpace

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
            legal = ", ".join(map(str, group.levels))
            raise CutError(f"{group.name}: level {level} is not legal here; legal levels: {legal}")
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
            cut_group(graph, pruned.get_submodule(group.name), surplus)
    check(pruned, model, {g.name: kept[g.name] for g in narrowed}, example)
    return pruned


def dependency_graph(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """Return torch-pruning's dependency graph of ``model``; it must be traced with gradients on."""
    with torch.enable_grad():
        return tp.DependencyGraph().build_dependency(model, example_inputs=example)


def cut_group(graph: tp.DependencyGraph, root: nn.Module, indices: list[int]) -> None:
    """Remove output channels ``indices`` of ``root`` and all that is coupled to them, in place."""
    remove = tp.prune_linear_out_channels if isinstance(root, nn.Linear) else tp.prune_conv_out_channels
    group = graph.get_pruning_group(root, remove, idxs=indices)
    if not graph.check_pruning_group(group):
        raise CutError(f"cutting {len(indices)} channels would leave a layer with none")
    group.prune()


def check(pruned: fx.GraphModule, base: fx.GraphModule, widths: Mapping[str, int], example: Tensor) -> None:
    """Raise CutError unless ``pruned`` runs, answers as ``base`` does in shape, finitely, with ``widths`` as planned.

    torch-pruning cuts some structures wrongly without a word (channel shuffle, parameter-free shortcuts, rounding
    beyond a layer's width, a ratio of one); nothing leaves this module unchecked.
    """
    for name, planned in widths.items():
        found = pruned.get_submodule(name).weight.shape[0]  # type: ignore[index]
        if found != planned:
            raise CutError(f"{name} has {found} channels after the cut, planned were {planned}")
    try:
        with torch.no_grad():
            answer, expected = pruned(example), base(example)
    except RuntimeError as error:
        raise CutError(f"the network does not run after the cut: {str(error).splitlines()[0]}") from error
    if answer.shape != expected.shape:
        raise CutError(f"the output's shape changed from {tuple(expected.shape)} to {tuple(answer.shape)}")
    if not torch.isfinite(answer).all():
        raise CutError("the network's answers are not finite after the cut")
