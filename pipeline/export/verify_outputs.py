"""A file is as good as its answers: they are compared with the network's on real images before it leaves the host."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ExportError

TOLERANCE = 1e-4
"""Largest allowed difference to torch, relative to the largest score where that is above one."""


def difference(model: nn.Module, example: Tensor, found: NDArray[np.float32]) -> float:
    """Return the largest difference between a file's answers to ``example`` and the network's own."""
    with torch.inference_mode():
        expected = model(example).numpy()
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


def require_equal(model: nn.Module, example: Tensor, found: NDArray[np.float32], kind: str) -> None:
    """Raise ExportError where a file's answers differ from the network's by more than is allowed."""
    error = difference(model, example, found)
    if not error <= TOLERANCE:
        raise ExportError(
            f"the {kind} file's answers differ from the network's by {error:.1e}, allowed is {TOLERANCE:.0e}"
        )
