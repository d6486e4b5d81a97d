"""Early stopping: a training ends when its score has not risen for a while, and its best weights are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

Score = Callable[[nn.Module], float]
"""Reads a network's share of right answers on images that it is not trained on; may put it into eval mode."""


@dataclass(kw_only=True)
class Patience:
    """How many evaluations without a gain are borne, and the best weights so far."""

    patience: int
    best: float = float("-inf")
    best_step: int = 0
    misses: int = 0
    """Evaluations since the best one."""
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def has_heard(self) -> bool:
        """Whether there was a score yet."""
        return bool(self.weights)

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self.misses >= self.patience

    def hear(self, score: float, step: int, weights: dict[str, Tensor]) -> None:
        """Note a score; of equals the earlier one is the best."""
        if score > self.best:
            self.best, self.best_step, self.misses = score, step, 0
            self.weights = {name: value.detach().clone() for name, value in weights.items()}
        else:
            self.misses += 1
