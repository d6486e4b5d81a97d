"""Distance to the geometric median of a layer's filters (He et al., FPGM, 2019)."""

import torch_pruning as tp
from torch import Tensor

NEEDS_GRADIENTS = False


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; the most replaceable goes first."""
    scores: Tensor = tp.importance.FPGMImportance()(group)
    return scores
