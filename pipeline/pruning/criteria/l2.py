"""Squared weights that belong to a channel, mean over the layers coupled by it, over the group's mean; see l1."""

import torch_pruning as tp
from torch import Tensor

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the lowest goes first."""
    scores: Tensor = tp.importance.GroupMagnitudeImportance(p=2)(group)
    return scores
