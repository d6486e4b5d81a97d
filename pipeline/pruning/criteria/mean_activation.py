"""Mean absolute activation of a unit's feature maps: the cheap look at what it answers. Needs a few hundred images.

Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, 2017, section 2.2 (mean
activation), with the absolute value for layers whose maps may be negative. Maps are read where feature_map reads them.
"""

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 5


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return the mean over images and pixels of the absolute value, for each layer that makes the unit."""
    return [group.total(part, evidence.average(mean_size, part)) for part in evidence.weights(group, "makes")]


def mean_size(maps: Tensor) -> Tensor:
    """Return the mean absolute values (N, C) of feature maps (N, C, H, W)."""
    return maps.abs().mean((2, 3), dtype=torch.float64)
