"""Average rank of a unit's feature maps: a map of low rank tells little. Needs a few hundred images.

Lin et al., HRank, 2020, equation 5. Maps are read behind norm and activation, and behind the addition where a layer
ends a residual branch, as in the authors' code; a linear layer's single figure has rank 1 where it is not zero.
"""

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 5


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return the mean over the images of the rank, for each layer that makes the unit."""
    return [group.total(part, evidence.average(rank, part)) for part in evidence.weights(group, "makes")]


def rank(maps: Tensor) -> Tensor:
    """Return the ranks (N, C) of feature maps (N, C, H, W).

    Singular values are computed in float64, but count only where they stand above the rounding of the float32 maps:
    the tolerance is torch's own for float32, which HRank uses.

    >>> rank(torch.stack([torch.eye(3), torch.ones(3, 3), torch.zeros(3, 3)])[None])
    tensor([[3, 1, 0]])
    """
    tolerance = max(maps.shape[-2:]) * torch.finfo(torch.float32).eps
    ranks: Tensor = torch.linalg.matrix_rank(maps.to(torch.float64), rtol=tolerance)
    return ranks
