"""Weight slicing: removes the slices of weights that hold pruned channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from pipeline.pruning.dependency.dependency_graph import DependencyGraph
from pipeline.pruning.dependency.propagation.layers import refit


def shrink(network: fx.GraphModule, known: DependencyGraph, alive: Tensor) -> None:
    """Take what is not alive out of ``network``, in place; weights that went with a block are passed over.

    Args:
        known: the dependency graph of the network that this one is a copy of.
        alive: whether each set of channels stays, bool, (sets,).
    """
    tensors = _by_name(network)
    shrunk: dict[int, Tensor] = {}
    for (name, axis), sets in known.axes.items():
        if name in tensors and not (stays := alive[sets]).all():
            tensor = tensors[name]
            smaller = shrunk.get(id(tensor), tensor.detach())
            shrunk[id(tensor)] = smaller.index_select(axis, torch.nonzero(stays).flatten())
    _replace(network, tensors, shrunk)
    for edit in known.edits:
        edit(network, lambda labels: alive[known.set_of[labels]])
    for module in network.modules():
        refit(module)
    network.recompile()


def _by_name(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by each of their names: one that layers share has several."""
    return {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}


def _replace(network: nn.Module, tensors: Mapping[str, Tensor], shrunk: Mapping[int, Tensor]) -> None:
    """Put the smaller tensors in; a parameter that was shared stays shared."""
    made: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in shrunk:
            continue
        if id(tensor) not in made:
            smaller = shrunk[id(tensor)].contiguous(memory_format=_layout(tensor))
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(smaller, tensor.requires_grad) if is_parameter else smaller
        module, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(module), attribute, made[id(tensor)])


def _layout(tensor: Tensor) -> torch.memory_format:
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
