"""Half precision on this machine: what a network answers when its weights and values are rounded to 16 bits.

Stands in for an engine that a board builds in FP16, which this machine has not: it rounds alike, though sums may be
kept in more bits there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline.errors import ExportError, first_line
from pipeline.export.format import FP16


class InHalfPrecision(nn.Module):
    """A network in half precision that takes and gives float32."""

    def __init__(self, network: nn.Module) -> None:
        """Round a copy of the network; ``network`` stays as it is."""
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (N, classes).

        Raises:
            ExportError: torch has an operator of the network in float32 alone.
        """
        try:
            with torch.autocast("cpu", enabled=False):
                found: Tensor = self.network(images.half()).float()
        except RuntimeError as error:
            raise ExportError(f"torch does not compute the network in {FP16}: {first_line(error)}") from error
        return found
