"""First-order Taylor: the change of the loss when a unit's weights are zeroed. Needs gradients.

Molchanov et al., Importance Estimation for Neural Network Pruning, 2019: |Σ w · ∂L/∂w| over a unit's parameters in
each layer that makes or scales it, batch norm's scale and shift among them (torch-pruning's GroupTaylorImportance
passes batch norm over), mean over small mini-batches, in eval mode. The gradient over all images at once, which
torch-pruning and RL-Pruner take, is near zero in a trained network whatever the unit is worth: its sign changes from
image to image. A ResNet-56 at half the MACs keeps 44 % before fine-tuning by it, 52 % by mini-batches
(``benchmarks/criteria.py``).
"""

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 4


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return the mean of |Σ w · ∂L/∂w| over each unit's weights, and over its biases, for each layer."""
    parts = evidence.parameters(group, "makes", "scales")
    return [torch.stack([group.total(part, row).abs() for row in evidence.effects(part)]).sum(0) for part in parts]
