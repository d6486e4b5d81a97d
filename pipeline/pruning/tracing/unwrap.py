"""Unwrapping: parametrizations, weight norm and DataParallel wrappers folded into plain weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from pipeline.errors import ModelError, first_line


def unwrap(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy in eval mode without wrappers and reparametrised weights, and what was taken off, in words.

    Taken off are ``torch.compile``, ``DataParallel``, parametrizations (``weight_norm``, ``spectral_norm``, whatever
    was registered), the older hooks of the same names, and the masks of ``torch.nn.utils.prune``. The answers stay.

    Raises:
        ModelError: it is TorchScript, or cannot be copied.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "the network is a TorchScript module, whose layers cannot be cut any more; "
            "give the nn.Module that it was made from, and these weights as its state_dict()"
        )
    model = _unwrapped(model)
    network = _copy(model).eval()
    return network, tuple(_unwrap_inside(network) + _fold_parametrizations(network) + _fold_hooks(network))


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return what a wrapper holds; names of parameters lose the wrapper's prefix."""
    inside = getattr(model, "_orig_mod", None)  # torch.compile's
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inside = model.module
    return _unwrapped(inside) if isinstance(inside, nn.Module) else model


def _copy(model: nn.Module) -> nn.Module:
    for module in model.modules():  # the older weight norm keeps a result with a gradient, which cannot be copied
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a user's attributes raise
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {first_line(error)}; keep such attributes out of the network"
        ) from error


def _unwrap_inside(network: nn.Module) -> list[str]:
    wrapped = [name for name, module in network.named_modules() if name and _unwrapped(module) is not module]
    for name in wrapped:
        network.set_submodule(name, _unwrapped(network.get_submodule(name)))
    return [f"{name}'s wrapper" for name in wrapped]


def _fold_parametrizations(network: nn.Module) -> list[str]:
    found = [
        (name, module, tensor)
        for name, module in network.named_modules()
        if parametrize.is_parametrized(module)
        for tensor in list(module.parametrizations)
    ]
    for module in {module for _, module, _ in found}:
        module.__class__ = _own_class(module)
    for _, module, tensor in found:
        parametrize.remove_parametrizations(module, tensor)
    return [f"{name}.{tensor}'s parametrization" for name, _, tensor in found]


def _own_class(module: nn.Module) -> type[nn.Module]:
    """Return a copy of a parametrised module's class: torch folds by deleting from it what the original shares."""
    kind = type(module)
    return type(kind.__name__, kind.__bases__, {k: v for k, v in vars(kind).items() if k != "__dict__"})


def _fold_hooks(network: nn.Module) -> list[str]:
    folded = []
    for name, module in network.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            else:
                continue
            folded.append(f"{name}'s {type(hook).__name__}")
    return folded
