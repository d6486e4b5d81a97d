"""Distance to the other filters of a layer: what lies in their midst can be replaced by them. Needs weights alone.

He et al., Filter Pruning via Geometric Median, 2019, equations 5 and 6: Σ over the layer's filters of the Euclidean
distance to them. Only the filters that make the unit count. torch-pruning's FPGMImportance squares the weights first,
so that a filter and its negative look alike, and compares the weights that read a unit as well.
"""

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 7


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return the sum of distances between a unit's filters and all others, for each layer that makes the unit."""
    return [
        group.total(part, _distances(evidence.along(part, evidence.tensor(part.tensor)), part.positions))
        for part in evidence.weights(group, "makes")
    ]


def _distances(filters: Tensor, members: Tensor) -> Tensor:
    """Return the sum of each filter's distances to the group's ``members``.

    By products, which is many times faster than by differences and leaves some 1e-8 of the filters' length between a
    filter and itself: what is that near is no distance.
    """
    apart = torch.cdist(filters, filters[members], compute_mode="use_mm_for_euclid_dist")
    length = filters.norm(dim=1)
    return torch.where(apart > 1e-7 * (length[:, None] + length[members]), apart, 0).sum(1)
