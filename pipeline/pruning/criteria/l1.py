"""Sum of absolute weights of a group's filters (Li et al., Pruning Filters for Efficient ConvNets, 2017)."""

import torch_pruning as tp
from torch import Tensor

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the lowest goes first."""
    scores: Tensor = tp.importance.GroupMagnitudeImportance(p=1)(group)
    return scores
