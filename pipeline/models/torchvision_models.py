"""torchvision's classification networks by name, untrained, for any number of classes and input channels."""

from __future__ import annotations

import copy

from torch import nn

from pipeline.torchvision_compat import torchvision

WITH_AUXILIARY_HEADS = frozenset({"googlenet", "inception_v3"})
"""They return a tuple while training unless that is switched off; the heads only help training from scratch."""


def names() -> list[str]:
    """Return the names of all classification networks."""
    return list(torchvision.models.list_models(module=torchvision.models))


def build(name: str, *, classes: int, channels: int) -> nn.Module:
    """Build a network of that name; a first convolution for other than 3 channels is replaced by a fitting one."""
    options = {"aux_logits": False, "init_weights": True} if name in WITH_AUXILIARY_HEADS else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    if channels != 3:
        _replace_first_convolution(model, channels)
    return model


def _replace_first_convolution(model: nn.Module, channels: int) -> None:
    name, first = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    fitting = copy.deepcopy(first)
    fitting.in_channels = channels
    fitting.weight = nn.Parameter(first.weight.new_empty(first.out_channels, channels, *first.kernel_size))
    nn.init.kaiming_normal_(fitting.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(name, fitting)
