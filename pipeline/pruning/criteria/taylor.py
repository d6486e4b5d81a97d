"""First-order Taylor: the change of the loss when a unit's weights are zeroed. Needs gradients.

Molchanov et al., Importance Estimation for Neural Network Pruning, 2019: |Σ w · ∂L/∂w| over a unit's parameters in
each layer that makes or scales it, batch norm's scale and shift among them (torch-pruning's GroupTaylorImportance
passes batch norm over). The gradient is that of the mean loss over all images, in eval mode.
"""

from torch import Tensor

from pipeline.pruning.coupled import Coupled, Slice
from pipeline.pruning.evidence import Evidence

DIGITS = 4


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return |Σ w · ∂L/∂w| over each unit's weights, and over its biases, for each layer."""
    parts = evidence.parameters(group, "makes", "scales")
    return [group.total(part, _effects(part, evidence)).abs() for part in parts]


def _effects(part: Slice, evidence: Evidence) -> Tensor:
    """Return Σ w · ∂L/∂w over the weights at each position along the slice's axis."""
    return evidence.along(part, evidence.tensor(part.tensor) * evidence.gradient(part.tensor)).sum(1)
