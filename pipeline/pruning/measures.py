"""What a network weighs: parameters, MACs, bytes; one definition each.

MACs are the multiply-accumulates of convolutions and linear layers for one image (batch norm, which a runtime folds
into the convolution before it, and element-wise operations are not counted), as in the pruning literature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Weight:
    """What a network, or one layer, weighs."""

    parameters: int
    macs: int


def layer_weights(model: nn.Module, example: Tensor) -> dict[str, Weight]:
    """Return parameters and MACs for one image of each convolution and linear layer, by qualified name."""
    macs: dict[str, int] = {}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}

    def hook(name: str) -> object:
        def count(module: nn.Module, _: object, output: Tensor) -> None:
            weight: Tensor = module.weight  # type: ignore[assignment]
            positions = output[0].numel() // weight.shape[0]
            macs[name] = macs.get(name, 0) + positions * weight.numel()

        return count

    handles = [m.register_forward_hook(hook(name)) for name, m in layers.items()]  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: Weight(sum(p.numel() for p in module.parameters()), macs.get(name, 0)) for name, module in layers.items()
    }


def weigh(model: nn.Module, example: Tensor) -> Weight:
    """Return all parameters of ``model`` and its MACs for one image.

    >>> weigh(nn.Conv2d(3, 8, 3, bias=False), torch.zeros(1, 3, 5, 5))
    Weight(parameters=216, macs=1944)
    """
    layers = layer_weights(model, example)
    return Weight(sum(p.numel() for p in model.parameters()), sum(w.macs for w in layers.values()))
