"""What may be cut: torch-pruning's groups of coupled channels, tried one by one, as a search space."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

import torch_pruning as tp
from torch import Tensor, fx, nn

from pipeline.errors import CutError, ModelError
from pipeline.pruning.blocks import Block, find_blocks
from pipeline.pruning.measures import Weight, layer_weights, weigh
from pipeline.pruning.prune import dependency_graph, width
from pipeline.pruning.trial_cut import cut_and_compare, half_of
from pipeline.records import LEVELS, Group, SearchSpace

Members = Mapping[str, tp.Group]
"""Root layer's name → torch-pruning's group of the layers coupled to it."""


def search_space(model: fx.GraphModule, example: Tensor, *, step: int) -> SearchSpace:
    """Return what may be cut in a traced ``model`` for a device whose channel step is ``step``.

    Raises:
        ModelError: nothing in the model can be cut, or its channels cannot be followed.
    """
    try:
        members = coupled_channels(model, example)
    except CutError as error:
        raise ModelError(f"{error}; reshapes that mix channels, as in a channel shuffle, are not followed") from error
    refused = _try_cuts(model, members, example)
    blocks = find_blocks(model)
    weights = layer_weights(model, example)
    groups = []
    for name, coupled in members.items():
        if name in refused:
            continue
        group = _group(name, coupled, _around(coupled, model, blocks), weights, model, step)
        if len(group.kept) > 1:
            groups.append(group)
        else:
            refused[name] = f"{group.channels} channels are no more than the device's step of {step}, and no bypass"
    if not groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3])
        raise ModelError(f"nothing in this model can be pruned ({reasons})")
    total = weigh(model, example)
    return SearchSpace(groups=tuple(groups), refused=refused, macs=total.macs, parameters=total.parameters, step=step)


def coupled_channels(model: fx.GraphModule, example: Tensor) -> Members:
    """Return torch-pruning's groups of ``model`` by their root layer's name, in forward order."""
    graph = dependency_graph(model, example)
    order = {str(n.target): i for i, n in enumerate(model.graph.nodes) if n.op == "call_module"}
    names = {module: name for name, module in model.named_modules()}
    groups = graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear])
    found = {names[g[0].dep.target.module]: g for g in groups}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], 0)))


def kept_channels(channels: int, level: int, step: int) -> int:
    """Return how many of ``channels`` stay at a level in percent, rounded up to ``step``, never to nothing.

    >>> [kept_channels(24, level, 8) for level in (0, 25, 50, 75)]
    [24, 24, 16, 8]
    >>> kept_channels(16, 25, 32)  # torch-pruning's round_to silently prunes nothing here; so do we, and say so
    16
    """
    return min(channels, max(step, step * math.ceil(channels * (100 - level) / 100 / step)))


def _try_cuts(model: fx.GraphModule, members: Members, example: Tensor) -> dict[str, str]:
    """Return the groups that cannot be cut, with the reason: each is tried on a copy, one on top of another."""
    example = example[:2]
    refused: dict[str, str] = {}
    trial, graph = _fresh(model, example)
    good: list[str] = []
    for name in members:
        try:
            group = half_of(trial, graph, name)
        except CutError as error:
            refused[name] = str(error)
            continue
        try:
            cut_and_compare(trial, group, example)
            good.append(name)
        except CutError as error:
            refused[name] = str(error)
            trial, graph = _fresh(model, example)
            for earlier in good:
                half_of(trial, graph, earlier).prune()
    return refused


def _fresh(model: fx.GraphModule, example: Tensor) -> tuple[fx.GraphModule, tp.DependencyGraph]:
    trial = copy.deepcopy(model)
    return trial, dependency_graph(trial, example)


def _around(coupled: tp.Group, model: fx.GraphModule, blocks: Iterable[Block]) -> Block | None:
    """Return the block whose branch makes all of the group's channels, if there is one."""
    producers = _producers(coupled, model)
    return next((block for block in blocks if producers <= block.layers), None)


def _producers(coupled: tp.Group, model: fx.GraphModule) -> frozenset[str]:
    names = {module: name for name, module in model.named_modules()}
    return frozenset(
        names[item.dep.target.module]
        for item in coupled
        if isinstance(item.dep.target.module, (nn.Conv2d, nn.Linear)) and "out_channels" in item.dep.handler.__name__
    )


def _group(
    name: str, coupled: tp.Group, block: Block | None, weights: Mapping[str, Weight], model: fx.GraphModule, step: int
) -> Group:
    root = model.get_submodule(name)
    channels = width(root)
    kept: dict[int, int] = {}
    for level in LEVELS[:-1]:
        count = kept_channels(channels, level, step)
        if count not in kept.values():  # a level that saves nothing more on this device is masked
            kept[level] = count
    if block is not None:
        kept[100] = 0
    names = {module: layer for layer, module in model.named_modules()}
    touched = {names[item.dep.target.module] for item in coupled if item.dep.target.module in names}
    kernel, stride = getattr(root, "kernel_size", (1,))[0], getattr(root, "stride", (1,))[0]
    return Group(
        name=name,
        layers=tuple(sorted(_producers(coupled, model))),
        channels=channels,
        kept=kept,
        macs=sum(weights[layer].macs for layer in touched if layer in weights),
        parameters=sum(weights[layer].parameters for layer in touched if layer in weights),
        bypass=block.name if block else None,
        kernel=kernel,
        stride=stride,
    )
