"""Sparsity mask: weights that are zero stay zero during training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Zeros:
    """The weights that are zero in a network when its training begins, where they lie and to be held there."""

    def __init__(self, model: nn.Module) -> None:
        """Look where they are; biases and batch norms, of one dimension, are free to move."""
        found = ((p, p.detach() == 0) for p in model.parameters() if p.dim() > 1)
        self._held: list[tuple[nn.Parameter, Tensor]] = [(p, where) for p, where in found if bool(where.any())]

    def free_gradients(self) -> None:
        """Set their gradients to zero, so that these count neither in a gradient's norm nor in the momentum."""
        for parameter, where in self._held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(where, 0.0)

    def restore(self) -> None:
        """Set what moved all the same back to zero."""
        with torch.no_grad():
            for parameter, where in self._held:
                parameter.masked_fill_(where, 0.0)
