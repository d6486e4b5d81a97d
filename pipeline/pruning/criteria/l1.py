"""Absolute weights that belong to a unit. Needs weights alone.

Li et al., Pruning Filters for Efficient ConvNets, 2017, sum the absolute weights of a filter. Here a group's layers
count as in Fang et al., DepGraph, 2023, and its authors' GroupMagnitudeImportance: the filters that make the unit, the
norm's scale, the depthwise filters between, and the weights that read it; biases do not. Unlike there, depthwise
filters do count.
"""

from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 7


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return Σ |w| over each unit's weights, for each layer."""
    return magnitudes(group, evidence, power=1)


def magnitudes(group: Coupled, evidence: Evidence, *, power: int) -> list[Tensor]:
    """Return Σ |w|^power over each unit's weights, for each layer that makes, scales or reads the unit."""
    return [
        group.total(part, evidence.along(part, evidence.tensor(part.tensor)).abs().pow(power).sum(1))
        for part in evidence.weights(group, "makes", "scales", "reads")
    ]
