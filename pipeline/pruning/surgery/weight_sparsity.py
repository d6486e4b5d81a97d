"""Unstructured magnitude pruning: the smallest weights become zero, every shape stays.

Gupta et al. 2020 (PuRL, arXiv 2007.04756) take the weights whose magnitude is below a threshold, in multiples of the
standard deviation σ of their layer's weights. Weights are the parameters of two and more dimensions, as everywhere
(``pruning.complexity``): biases and batch norms stay. What a plan holds is the share of a layer that a threshold meant.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import CutError, ModelError

THRESHOLDS = tuple(i / 10 for i in range(23))
"""PuRL's, in σ: 0 to 2.2. Of normally distributed weights the last one leaves 2.8 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the values of one weight tensor lie around zero."""

    name: str
    """The parameter's."""
    weights: int
    below: tuple[float, ...]
    """For each of ``THRESHOLDS`` the share of the weights that are below it in magnitude, or zero already."""


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return a network's weights by name, in the order of its parameters, which is that of a plan's zeros."""
    return {name: p for name, p in network.named_parameters() if p.dim() > 1}


def spreads(network: nn.Module, protect: Sequence[str] = (), only: Sequence[str] = ()) -> tuple[Spread, ...]:
    """Return how each weight tensor is spread, in the order of ``weights``.

    Args:
        network: what is to be pruned.
        protect: layers that are left alone, by name or pattern: ``layer1.*``.
        only: layers that are not; empty: all that are not protected.

    Raises:
        ModelError: weights are not finite.
    """
    return tuple(
        Spread(name=name, weights=weight.numel(), below=_below(name, weight.detach(), alone=alone))
        for name, weight in weights(network).items()
        for alone in [_fits(name, protect) or (bool(only) and not _fits(name, only))]
    )


def density(found: Sequence[Spread], shares: Sequence[float]) -> float:
    """Return the share of all weights that are not zero, where so much of each tensor is.

    >>> half, whole = (Spread(name=n, weights=w, below=()) for n, w in (("a.weight", 30), ("b.weight", 10)))
    >>> density([half, whole], [0.5, 0.0])
    0.625
    """
    zeros = sum(round(share * one.weights) for one, share in zip(found, shares, strict=True))
    return 1 - zeros / sum(one.weights for one in found)


def set_to_zero(network: nn.Module, shares: Mapping[str, float]) -> None:
    """Set the smallest weights to zero, in place: of each named tensor its share, of equals the first.

    Raises:
        ModelError: the network has no such weights.
        CutError: a share is not between 0 and 1.
    """
    known = weights(network)
    for name, share in shares.items():
        if name not in known:
            raise ModelError(
                f"{type(network).__name__} has no weights {name!r}, of which {share:.1%} are to be zero; give a "
                "network of the same architecture"
            )
        if not 0 <= share <= 1:
            raise CutError(f"{name}: {share!r} of its weights are to be zero; a share is between 0 and 1")
        with torch.no_grad():
            weight = known[name]
            weight.masked_fill_(_smallest(weight, round(share * weight.numel())), 0.0)


def _below(name: str, weight: Tensor, *, alone: bool) -> tuple[float, ...]:
    magnitudes = weight.abs()
    if not torch.isfinite(magnitudes).all():
        raise ModelError(f"{name} holds values that are not finite; bring weights of a training that did not diverge")
    zero = int((magnitudes == 0).sum())
    if alone:
        return (zero / weight.numel(),) * len(THRESHOLDS)
    limits = [float(weight.double().std(correction=0)) * threshold for threshold in THRESHOLDS]
    return tuple(max(zero, int((magnitudes.double() < limit).sum())) / weight.numel() for limit in limits)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    layer = name.rpartition(".")[0]
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)


def _smallest(weight: Tensor, count: int) -> Tensor:
    """Return where the ``count`` smallest magnitudes are, in the tensor's shape; of equals the first in their order."""
    if count == 0:
        return torch.zeros_like(weight, dtype=torch.bool)
    magnitudes = weight.abs().flatten()
    limit = magnitudes.kthvalue(count).values
    smaller, equal = magnitudes < limit, magnitudes == limit
    first = equal & (equal.cumsum(0) <= count - smaller.sum())
    return (smaller | first).view(weight.shape)
