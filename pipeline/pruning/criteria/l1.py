"""Absolute weights that belong to a channel, mean over the layers coupled by it, over the group's mean.

Li et al., Pruning Filters for Efficient ConvNets, 2017, for groups as in Fang et al., DepGraph, 2023: the filters that
make the channel, the batch norm's scale, and the weights that read it.
"""

import torch_pruning as tp
from torch import Tensor

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the lowest goes first."""
    scores: Tensor = tp.importance.GroupMagnitudeImportance(p=1)(group)
    return scores
