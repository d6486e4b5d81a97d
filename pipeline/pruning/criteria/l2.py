"""Squared weights that belong to a unit; what counts is as in l1. Needs weights alone."""

from torch import Tensor

from pipeline.pruning.criteria.l1 import magnitudes
from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 7


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return Σ w² over each unit's weights, for each layer."""
    return magnitudes(group, evidence, power=2)
