"""Regression: numbers for each example; mean squared error, and the share of the variance that is explained (R²).

Outputs and targets are float tensors of one shape, (N, ...) or (N,), or tuples and dictionaries of such.

R² and not the negative mean absolute error: an error is the smaller the better and has the targets' unit, so that no
weight in the reward, no drop and no chart would mean the same for two data sets. R² = 1 - squared error / squared error
of the mean has no unit, is 1 for a perfect answer and 0 for the best constant, so larger is better. Worse than the best
constant is negative and counts as 0: worth nothing. It is taken of each number by itself and averaged over them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import structures

METRIC = "R²"


def loss(outputs: Any, targets: Any) -> Tensor:
    """Return the mean squared error, summed over the parts of the outputs."""
    pairs = [functional.mse_loss(found, wanted) for found, wanted in _pairs(outputs, targets)]
    return torch.stack(pairs).sum()


def teacher_loss(outputs: Any, taught: Any) -> Tensor:
    """Return the same with what the teacher answers as the targets."""
    return loss(outputs, taught)


def metric(predictions: Any, targets: Any) -> float:
    """Return R², each number by itself, the mean over all that vary; no less than 0."""
    shares: list[Tensor] = []
    for found, wanted in _pairs(predictions, targets):
        found, wanted = found.flatten(1).double(), wanted.flatten(1).double()
        spread = (wanted - wanted.mean(0)).square().sum(0)
        varies = spread > 0
        shares.append(1 - ((found - wanted).square().sum(0) / spread)[varies])
    together = torch.cat(shares)
    return max(0.0, float(together.mean())) if len(together) else 0.0


def _pairs(outputs: Any, targets: Any) -> list[tuple[Tensor, Tensor]]:
    """Return each tensor of the outputs with its target, both (N, ...) of one shape.

    Raises:
        ValueError: they are of different structure or shape.
    """
    found, wanted = structures.tensors(outputs), structures.tensors(structures.as_parts(targets))
    if found.keys() != wanted.keys():
        raise ValueError(f"the network answers with {_shown(found)}, the targets are {_shown(wanted)}")
    pairs = []
    for path, one in found.items():
        other = wanted[path].to(one.dtype)
        if one.numel() != other.numel() or len(one) != len(other):
            raise ValueError(f"the network answers with {tuple(one.shape)}, the targets are {tuple(other.shape)}")
        pairs.append((one.reshape(len(one), -1), other.reshape(len(other), -1)))
    return pairs


def _shown(parts: dict[structures.Path, Tensor]) -> str:
    return ", ".join(f"{structures.named(path) if path else 'a tensor'} {tuple(t.shape)}" for path, t in parts.items())
