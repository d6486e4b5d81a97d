"""No criterion at all: the control that every other one has to beat. Needs nothing."""

import hashlib

import torch
from torch import Tensor

from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.importance.evidence import Evidence

DIGITS = 7


def scores(group: Coupled, evidence: Evidence) -> list[Tensor]:
    """Return one random score a unit: of the seed and the group's name, not of what was drawn for other groups."""
    digest = hashlib.sha256(f"{evidence.seed} {group.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
    return [torch.rand(group.units, generator=generator, dtype=torch.float64)]
