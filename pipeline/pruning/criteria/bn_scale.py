"""Absolute scale of the batch norms behind a unit; l1 where a group has none. Needs weights alone.

Liu et al., Network Slimming, 2017: γ of every batch norm that the unit passes before it is read.
"""

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.pruning.criteria import l1
from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 7


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return |γ|, for each batch norm."""
    scales = [p for p in evidence.weights(group, "scales") if isinstance(evidence.layer(p), _BatchNorm)]
    return [group.total(p, evidence.tensor(p.tensor).abs()) for p in scales] or l1.scores(group, evidence)
