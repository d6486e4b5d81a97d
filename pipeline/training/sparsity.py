"""L1 sparsity training: a constant pull towards zero on batch norm's scales, or on the weights.

Network Slimming (Liu et al., 2017, section 3): the penalty λ·Σ|γ| adds its subgradient λ·sign(γ) to each scale's
gradient, so that scales of channels that the loss does not need go to zero, and ``criterion: bn_scale`` finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import ConfigError


def penalised(model: nn.Module, l1: float, on: Literal["batch_norm", "weights"]) -> list[nn.Parameter]:
    """Return the parameters that are pulled towards zero: none where ``l1`` is 0.

    Raises:
        ConfigError: there is nothing to pull at.
    """
    if l1 == 0:
        return []
    if on == "weights":
        found = [p for p in model.parameters() if p.dim() > 1 and p.requires_grad]
    else:
        norms = (m for m in model.modules() if isinstance(m, _BatchNorm) and m.affine)
        found = [m.weight for m in norms if m.weight.requires_grad]
    if not found:
        raise ConfigError(f"sparsity.on: {on}, but the network has none that can be trained; {_INSTEAD[on]}")
    return found


def pull_towards_zero(parameters: Sequence[nn.Parameter], l1: float) -> None:
    """Add the penalty's subgradient to the gradients, in place; that of 0 is 0."""
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=l1)


_INSTEAD = {
    "batch_norm": "write on: weights, or l1: 0",
    "weights": "write l1: 0",
}
