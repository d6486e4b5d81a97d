"""Sum of squared weights of a group's filters."""

import torch_pruning as tp
from torch import Tensor

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the lowest goes first."""
    scores: Tensor = tp.importance.GroupMagnitudeImportance(p=2)(group)
    return scores
