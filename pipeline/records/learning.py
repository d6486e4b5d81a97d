"""How a strategy's network learns, burst by burst."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What stood after one burst of learning."""

    trial: int
    """How many measured plans it could learn from."""
    updates: int
    """Gradient steps so far."""
    loss: float
    """Mean of the burst's second half: smooth L1 of the temporal difference, in units of the reward."""
    value: float
    """Mean over the same states, from the first burst on, of the best level's value: what is still to be earned."""
    exploration: float
    """Share of random levels in the episodes that it played."""
