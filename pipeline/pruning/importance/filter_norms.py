"""How large the filters of each group are: what a threshold of magnitude is held against."""

from __future__ import annotations

from torch import Tensor, fx

from pipeline.pruning.dependency.channel_sets import Coupled, Couplings
from pipeline.pruning.importance.evidence import Evidence
from pipeline.records import SearchSpace

Norms = tuple[tuple[float, ...], ...]
"""For each group one norm a unit."""


def filter_norms(network: fx.GraphModule, space: SearchSpace, couplings: Couplings) -> Norms:
    """Return the L2 norm of the filters that make each unit, by group; where several layers make it, of all together.

    Raises:
        ModelError: weights are not finite.
    """
    groups = [couplings[group.name] for group in space.groups]
    evidence = Evidence(network, groups, ())
    return tuple(tuple(_squares(group, evidence).sqrt().tolist()) for group in groups)


def _squares(group: Coupled, evidence: Evidence) -> Tensor:
    parts = evidence.weights(group, "makes")
    squares = [group.total(p, evidence.along(p, evidence.tensor(p.tensor)).square().sum(1)) for p in parts]
    total: Tensor = sum(squares[1:], start=squares[0])
    return total
