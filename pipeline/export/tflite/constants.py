"""The constants that a converter makes of a network: its weights with batch norm folded, by names that a cut keeps.

A converter folds the batch norm that directly follows a convolution or linear layer into it; any other batch norm is
left as a scale and a shift. What it writes are these values, in another order of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx, nn

from pipeline.export.tflite.shapes import RefusedError

Constants = Mapping[str, Tensor]

Layer = nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def constants(network: fx.GraphModule) -> dict[str, Tensor]:
    """Return every constant that may stand in a converted file: ``layer.weight``, ``layer.bias``, ``norm.scale``.

    A layer that a cut removed is not there; the others keep their names.
    """
    modules = dict(network.named_modules())
    norms = dict(_folded_norms(network, modules))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, module in modules.items():
            if isinstance(module, _LAYERS):
                found.update(_of_layer(name, module, norms.get(name)))
            elif isinstance(module, _NORMS) and module not in norms.values():
                found.update(_of_norm(name, module))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                found.setdefault(name, value.detach())
    return found


def _folded_norms(network: fx.GraphModule, modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield each layer whose output nothing but a batch norm reads, and that batch norm."""
    for node in network.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[str(node.target)], _NORMS):
            continue
        source = node.all_input_nodes[0]
        if source.op == "call_module" and len(source.users) == 1 and isinstance(modules[str(source.target)], _LAYERS):
            yield str(source.target), modules[str(node.target)]


def _of_layer(name: str, layer: Layer, norm: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    weight, bias = layer.weight.double(), None if layer.bias is None else layer.bias.double()
    if isinstance(norm, _NORMS):
        scale, shift = _affine(norm)
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = shift if bias is None else bias * scale + shift
    yield f"{name}.weight", weight.float()
    if bias is not None:
        yield f"{name}.bias", bias.float()


def _of_norm(name: str, norm: Norm) -> Iterator[tuple[str, Tensor]]:
    """Yield what a batch norm on its own becomes: x · scale + shift."""
    scale, shift = _affine(norm)
    yield f"{name}.scale", scale.float()
    yield f"{name}.shift", shift.float()


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm in eval mode, in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise RefusedError("a batch norm keeps no statistics")
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
