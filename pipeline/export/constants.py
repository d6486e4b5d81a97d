"""The constants of a network's file: its weights with batch norm folded, by names that a cut keeps.

A converter folds the batch norm that directly follows a convolution or linear layer into it; any other batch norm is
left as it is, or as a scale and a shift. What it writes are these values, TFLite's in another order of axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.export.format import FastPathUnsupportedError

Constants = Mapping[str, Tensor]

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_TO_CHANNELS = 6
"""Numbers that pad width, height and channels."""
_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def constants(network: fx.GraphModule) -> dict[str, Tensor]:
    """Return every constant that may stand in a converted file: ``layer.weight``, ``norm.scale``, ``shortcut.pad``.

    A layer that a cut removed is not there; the others keep their names.
    """
    modules = dict(network.named_modules())
    norms = folded_norms(network)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, module in modules.items():
            if isinstance(module, _LAYERS):
                found.update(_of_layer(name, module, norms.get(name)))
            elif isinstance(module, _NORMS) and module not in norms.values():
                found.update(_of_norm(name, module))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                # A convolution of signals is written as one of images of one row; batch norm stays beside it.
                found.setdefault(name, value.detach()[:, :, None] if value.dim() == 3 else value.detach())
    return {**found, **_paddings(network)}


def _paddings(network: fx.GraphModule) -> dict[str, Tensor]:
    """Return how many channels of zeros each padded shortcut adds, before and after its own, by its node's name."""
    found: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        amounts = node.args[1] if node.target is functional.pad and len(node.args) > 1 else node.kwargs.get("pad")
        if isinstance(amounts, (list, tuple)) and len(amounts) == _TO_CHANNELS and not any(amounts[:-2]):
            found[f"{node.name}.pad"] = torch.tensor(amounts[-2:])
    return found


def folded_norms(network: fx.GraphModule, layers: tuple[type[Layer], ...] = _LAYERS) -> dict[str, Norm]:
    """Return the layers whose output nothing but a batch norm reads, each with that batch norm.

    A layer or batch norm that the network calls twice is not among them.

    Args:
        layers: whose batch norms are folded: TFLite's converter leaves those behind convolutions of signals.
    """
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in network.graph.nodes if node.op == "call_module")
    found: dict[str, Norm] = {}
    for node in network.graph.nodes:
        norm = modules[str(node.target)] if node.op == "call_module" else None
        if not isinstance(norm, _NORMS):
            continue
        source = node.all_input_nodes[0]
        alone = len(source.users) == calls[source.target] == calls[node.target] == 1
        if source.op == "call_module" and alone and isinstance(modules[str(source.target)], layers):
            found[str(source.target)] = norm
    return found


@torch.no_grad()
def folded_weight(layer: Layer, norm: Norm | None) -> Tensor:
    """Return a layer's weight with the batch norm that follows it."""
    weight = layer.weight.detach().float()
    if norm is None:
        return weight
    return weight * _affine(norm)[0].float().reshape(-1, *[1] * (weight.dim() - 1))


@torch.no_grad()
def folded_bias(layer: Layer, norm: Norm | None) -> Tensor | None:
    """Return a layer's bias with the batch norm that follows it; None where there is neither."""
    bias = None if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        scale, shift = _affine(norm)
        bias = shift if bias is None else bias * scale + shift
    return None if bias is None else bias.float()


def _of_layer(name: str, layer: Layer, norm: Norm | None) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", folded_weight(layer, norm)
    bias = folded_bias(layer, norm)
    if bias is not None:
        yield f"{name}.bias", bias


def _of_norm(name: str, norm: Norm) -> Iterator[tuple[str, Tensor]]:
    """Yield what a batch norm on its own becomes: x · scale + shift."""
    scale, shift = _affine(norm)
    yield f"{name}.scale", scale.float()
    yield f"{name}.shift", shift.float()


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm in eval mode, in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise FastPathUnsupportedError("a batch norm keeps no statistics")
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    return scale, shift + norm.bias.double() if norm.affine else shift


def distinct(network: fx.GraphModule, seed: int = 0) -> fx.GraphModule:
    """Give every parameter and every batch norm's statistics random values, in place; return the network.

    Trained or fresh networks hold equal constants (zero biases, batch norms never trained), which a converter merges
    or leaves out, and then nobody can say which belongs where. Random ones it cannot confuse; a file's structure
    depends on shapes alone.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(_random(parameter, generator))
        for norm in (module for module in network.modules() if isinstance(module, _NORMS)):
            if norm.running_mean is not None:
                norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
            for positive in (norm.running_var, norm.weight if norm.affine else None):
                if positive is not None:
                    positive.copy_(0.5 + torch.rand(positive.shape, generator=generator))
    return network


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal values; those of weights shrink with the fan-in (He et al., 2015), so that nothing overflows."""
    fan_in = like[0].numel() if like.dim() > 1 else 1
    values: Tensor = torch.randn(like.shape, generator=generator) * (2 / fan_in) ** 0.5
    return values
