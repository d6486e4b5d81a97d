"""Absolute scale of the batch norm behind a channel (Liu et al., Network Slimming, 2017); L1 where there is none."""

import torch_pruning as tp
from torch import Tensor

from pipeline.pruning.criteria import l1

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the lowest goes first."""
    scores: Tensor | None = tp.importance.BNScaleImportance()(group)
    return l1.score(group) if scores is None else scores
