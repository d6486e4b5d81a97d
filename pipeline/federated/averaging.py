"""Federated averaging: the mean of what sites have learnt, weighted by their trials and bounded against any of them.

    mean = w + Σ_k p_k · min(1, c/‖d_k‖) · d_k,    d_k = w_k − w

where w is what all sites began the round with and p_k the share of site k in the measured trials. No share is more than
``MOST`` times an equal one, for nobody can check how much a site has measured; and no change counts for more than
``CLIP`` times the lower median of all sites' changes (c), so that one site cannot carry the others away.

    McMahan et al. 2017 (FedAvg), Sun et al. 2019 (norm clipping)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.federated.weights import Weights

MOST = 1.5
CLIP = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a site has come to in a round."""

    site: str
    weights: Weights
    trials: int
    """Measured, behind its models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """The mean, and how much each site was in it."""

    weights: Weights
    shares: Mapping[str, float]
    clipped: tuple[str, ...]
    """Sites whose change was scaled down."""


def average(before: Weights, updates: Sequence[Update]) -> Averaged:
    """Return the mean of what sites have learnt.

    Args:
        before: what each of them began the round with.
        updates: at least one, of networks of the same structure.
    """
    shares = bounded_shares([update.trials for update in updates])
    changes = [{name: update.weights[name].astype(float) - values for name, values in before.items()}
               for update in updates]  # fmt: skip
    norms = [_norm(change) for change in changes]
    scales = _scales(norms)
    mean = {
        name: (values + sum(p * s * change[name] for p, s, change in zip(shares, scales, changes, strict=True))).astype(
            np.float32
        )
        for name, values in before.items()
    }
    return Averaged(
        weights=mean,
        shares={update.site: share for update, share in zip(updates, shares, strict=True)},
        clipped=tuple(update.site for update, scale in zip(updates, scales, strict=True) if scale < 1),
    )


def bounded_shares(trials: Sequence[int]) -> list[float]:
    """Return each site's share of the trials, none more than ``MOST`` equal shares; what is over goes to the others.

    >>> bounded_shares([10, 10, 20]), [round(share, 3) for share in bounded_shares([6, 3, 10**9])]
    ([0.25, 0.25, 0.5], [0.333, 0.167, 0.5])
    >>> bounded_shares([7]), bounded_shares([0, 0])
    ([1.0], [0.5, 0.5])
    """
    counts = np.maximum(np.asarray(trials, dtype=float), 0.0)
    counts = counts if counts.sum() > 0 else np.ones_like(counts)
    most = min(1.0, MOST / len(counts))
    bounded = np.zeros(len(counts), dtype=bool)
    shares = counts / counts.sum()
    while (over := (shares > most + 1e-12) & ~bounded).any():
        bounded |= over
        rest, left = np.where(bounded, 0.0, counts), 1.0 - most * bounded.sum()
        rest = rest if rest.sum() > 0 else (~bounded).astype(float)
        shares = np.where(bounded, most, left * rest / rest.sum())
    return [float(share) for share in shares]


def _norm(change: Weights | Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.square(values).sum()) for values in change.values())))


def _scales(norms: Sequence[float]) -> list[float]:
    """Return by what each site's change is multiplied."""
    moved = sorted(norm for norm in norms if norm > 0)
    if not moved:
        return [1.0] * len(norms)
    most = CLIP * moved[(len(moved) - 1) // 2]
    return [min(1.0, most / norm) if norm > 0 else 1.0 for norm in norms]
