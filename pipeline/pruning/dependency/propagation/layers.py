"""Layers with weights: who makes channels, who scales them, who reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.pruning.dependency.channel_sets import Role
from pipeline.pruning.dependency.propagation.call import Call
from pipeline.pruning.dependency.propagation.labels import PropagationState, spread, varying
from pipeline.pruning.dependency.propagation.shape_edits import Attribute, Literal

_MAKES: Role = "makes"


def convolution(call: Call) -> Tensor:
    """Read channels, make others; a depthwise convolution keeps its channels, a grouped one whole groups."""
    weight, bias, groups = _weights(call, ("weight", 1), ("bias", 2), ("groups", 6))
    return _convolved(call, weight, bias, groups or 1, reads=1)


def transposed(call: Call) -> Tensor:
    """Do the same with weights that lie the other way round: (in, out / groups, ...)."""
    weight, bias, groups = _weights(call, ("weight", 1), ("bias", 2), ("groups", 6))
    return _convolved(call, weight, bias, groups or 1, reads=0)


def linear(call: Call) -> Tensor:
    """Read features along the last dimension, make others."""
    weight, bias = _weights(call, ("weight", 1), ("bias", 2))
    call.state.note(weight, 1, call.state.along(call.labels, -1), "reads")
    made = call.state.made(weight, 0)
    call.state.note(bias, 0, made, "makes")
    return spread(made, -1, call.shape)


def batch_norm(call: Call) -> Tensor:
    """Scale each channel by itself."""
    weights = _weights(call, ("running_mean", 1), ("running_var", 2), ("weight", 3), ("bias", 4))
    return _scaled(call, 1, weights)


def instance_norm(call: Call) -> Tensor:
    """Scale each channel by itself, too; functions and modules take their weights in the same order."""
    return batch_norm(call)


def prelu(call: Call) -> Tensor:
    """Scale what is negative, by one number a channel or one for all."""
    (weight,) = _weights(call, ("weight", 1))
    return _scaled(call, 1, [weight]) if weight.numel() > 1 else call.labels


def group_norm(call: Call) -> Tensor:
    """Scale channels by their group's deviation: whole groups come and go, or single channels of an only group."""
    groups, weight, bias = _weights(call, ("num_groups", 1), ("weight", 2), ("bias", 3))
    labels = call.state.along(call.labels, 1)
    if groups == 1:
        call.state.normalised.append(labels)
        return _scaled(call, 1, [weight, bias])
    rows = labels.view(groups, -1)
    call.state.couple(rows[:, :1], rows)
    _count(call, "num_groups", 1, rows[:, 0])
    return _scaled(call, 1, [weight, bias])


def layer_norm(call: Call) -> Tensor:
    """Scale by the deviation over the last dimensions: channels among them change one another."""
    shape, weight, bias = _weights(call, ("normalized_shape", 1), ("weight", 2), ("bias", 3))
    first = call.labels.dim() - len(shape)
    within = [d for d in varying(call.labels) if d >= first]
    if len(within) > 1:
        call.state.freeze(call.labels, "it is normalised over more than one dimension of channels")
        return call.labels
    for dim in within:
        labels = call.state.along(call.labels, dim)
        for tensor in (weight, bias):
            call.state.note(tensor, dim - first, labels, "scales")
        call.state.normalised.append(labels)
        _count(call, "normalized_shape", 1, labels, index=dim - first)
    return call.labels


def _convolved(call: Call, weight: Tensor, bias: Tensor | None, groups: int, *, reads: int) -> Tensor:
    state, channels = call.state, call.state.along(call.labels, 1)
    if groups == 1:
        state.note(weight, reads, channels, "reads")
        made, role = state.made(weight, 1 - reads), _MAKES
    else:
        made, role = _grouped(call, weight, channels, groups, reads)
    state.note(bias, 0, made, role)
    return spread(made, 1, call.shape)


def _grouped(call: Call, weight: Tensor, channels: Tensor, groups: int, reads: int) -> tuple[Tensor, Role]:
    """Note whole groups: what one of them reads and what it makes comes and goes together."""
    state, rows = call.state, channels.view(groups, -1)
    if rows.shape[1] > 1 or call.shape[1] > groups:
        state.grouped.add(state.name(weight))
    if state.name(weight) in state.within:
        return _alike(call, weight, rows, reads), _MAKES
    state.couple(rows[:, :1], rows)
    made = rows[:, 0].repeat_interleave(call.shape[1] // groups)
    role: Role = "scales" if rows.shape[1] == 1 else "makes"
    # Axis 0 lies group by group in both kinds: outputs of a convolution, inputs of a transposed one.
    state.note(weight, 0, made if reads else channels, role)
    _count(call, "groups", 6, rows[:, 0])
    return made, role


def _alike(call: Call, weight: Tensor, rows: Tensor, reads: int) -> Tensor:
    """Note channels that are read and made at the same place of every group as one; return the labels of all made."""
    state, groups = call.state, len(rows)
    state.couple(rows[:1], rows)
    if reads:
        state.note(weight, 1, rows[0], "reads")
        made = state.made(weight, 0)
        state.couple(made.view(groups, -1)[:1], made.view(groups, -1))
        return made
    state.note(weight, 0, rows.flatten(), "reads")
    return state.made(weight, 1).repeat(groups)


def _scaled(call: Call, dim: int, weights: list[Any]) -> Tensor:
    labels = call.state.along(call.labels, dim)
    for tensor in weights:
        call.state.note(tensor, 0, labels, "scales")
    return call.labels


def _weights(call: Call, *wanted: tuple[str, int]) -> list[Any]:
    """Return a module's attributes, or a function's arguments, by name and place."""
    if call.module is not None:
        return [getattr(call.module, name, None) for name, _ in wanted]
    return [call.argument(place, name) for name, place in wanted]


def _count(call: Call, name: str, position: int, labels: Tensor, index: int | None = None) -> None:
    """Note a number, an attribute or an argument, that counts ``labels``."""
    if call.module is not None:
        call.state.edits.append(Attribute(str(call.node.target), name, labels, index))
        return
    place = call.place(position, name)
    if not isinstance(call.written(place), torch.fx.Node):
        call.state.edits.append(Literal(call.node.name, place if index is None else (*place, index), labels))


def refit(module: nn.Module) -> None:
    """Let a layer's own account of its widths agree with its cut weights."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.conv._ConvTransposeNd):
        module.in_channels, module.out_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
    elif isinstance(module, (nn.modules.batchnorm._NormBase)):
        held = weight if weight is not None else module.running_mean
        module.num_features = module.num_features if held is None else len(held)
    elif isinstance(module, nn.GroupNorm) and weight is not None:
        module.num_channels = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()


def initial_state(network: nn.Module) -> PropagationState:
    """Return an empty state of a network's parameters and buffers."""
    names: dict[int, str] = {}
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        names.setdefault(id(tensor), name)
    return PropagationState(names)
