"""A file is as good as its answers: they are compared with the network's on real images before it leaves the host."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline import structures
from pipeline.errors import ExportError
from pipeline.structures import Inputs

TOLERANCE = 1e-4
"""Largest allowed difference to torch, relative to the largest score where that is above one."""


def difference(model: nn.Module, example: Inputs, found: NDArray[np.float32]) -> float:
    """Return the largest difference between a file's answers to ``example`` and the network's own.

    Args:
        found: of a network with several outputs rows, see :mod:`pipeline.export.signature`.
    """
    with torch.inference_mode():
        expected = [part.numpy() for part in structures.tensors(structures.answer(model, example)).values()]
    if len(expected) == 1:
        return _difference(found, expected[0])
    if found.shape != (len(expected[0]), sum(part[0].size for part in expected)):
        return float("inf")
    ends = np.cumsum([part[0].size for part in expected])
    parts = np.split(found, ends[:-1], axis=1)
    return max(_difference(part.reshape(one.shape), one) for part, one in zip(parts, expected, strict=True))


def require_equal(model: nn.Module, example: Inputs, found: NDArray[np.float32], kind: str) -> None:
    """Raise ExportError where a file's answers differ from the network's by more than is allowed."""
    error = difference(model, example, found)
    if not error <= TOLERANCE:
        raise ExportError(
            f"the {kind} file's answers differ from the network's by {error:.1e}, allowed is {TOLERANCE:.0e}"
        )


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
