"""Which variants of a ladder earn their place: by what an oracle that knows the condition makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.adaptation.frames import Frames
from pipeline.adaptation.replay import Floats
from pipeline.adaptation.streams import CLEAN_SHARE, Ladder
from pipeline.records.adaptation import DroppedVariant

LEAST_GAIN = 0.001
"""In probabilities of a right answer at a price, on average over prices: a variant that brings less is dropped."""
_PRICES = np.geomspace(0.01, 1.0, 20)


def chosen_variants(
    frames: Frames, ladder: Ladder, *, most: int, keep: Sequence[str]
) -> tuple[list[int], list[DroppedVariant]]:
    """Return the variants to keep, the cheapest first, and what was dropped.

    Args:
        frames: that no variant was trained on.
        ladder: all candidates.
        most: variants to keep at most.
        keep: names of variants that stay.
    """
    weights = np.full(len(frames.conditions), (1 - CLEAN_SHARE) / max(1, len(frames.conditions) - 1))
    weights[0] = CLEAN_SHARE if len(frames.conditions) > 1 else 1.0
    accuracies = frames.accuracies
    kept = list(range(len(ladder.names)))
    dropped: list[DroppedVariant] = []
    while len(kept) > 1:
        losses = {
            variant: _worth(accuracies, ladder.costs, weights, kept)
            - _worth(accuracies, ladder.costs, weights, [one for one in kept if one != variant])
            for variant in kept
            if ladder.names[variant] not in keep
        }
        if not losses:
            break
        least = min(losses, key=lambda variant: losses[variant])
        if losses[least] >= LEAST_GAIN and len(kept) <= most:
            break
        kept.remove(least)
        dropped.append(
            DroppedVariant(name=ladder.names[least], why=_why(least, kept, accuracies, ladder, losses[least], weights))
        )
    return kept, dropped


def _worth(accuracies: Floats, costs: Floats, weights: Floats, variants: Sequence[int]) -> float:
    """Return what an oracle of the condition gets by these variants, on average over prices."""
    values = accuracies[:, variants, None] - costs[variants, None] * _PRICES
    return float((weights[:, None] * values.max(1)).sum(0).mean())


def _why(variant: int, kept: Sequence[int], accuracies: Floats, ladder: Ladder, loss: float, weights: Floats) -> str:
    mean = weights @ accuracies
    for other in kept:
        if ladder.costs[other] <= ladder.costs[variant] and (accuracies[:, other] >= accuracies[:, variant]).all():
            return f"{ladder.names[other]} costs no more and answers no worse in any condition"
    shown = f"{mean[variant]:.1%} right at {ladder.costs[variant]:.2f}× of the plain one's cost"
    return f"{shown}, it brings {100 * max(0.0, loss):.2f} points to whoever knows the condition"
