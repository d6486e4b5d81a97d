"""Uniform and global-threshold baselines: one share for every group, or one threshold for all units.

None of them looks at the device but for its channel step, to which kept channels are rounded up as the search's are.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config import CriterionConfig
from pipeline.pruning.criteria import bn_scale
from pipeline.pruning.dependency.channel_sets import Coupled
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.evidence import Evidence
from pipeline.pruning.importance.ranking import combined
from pipeline.records import Group, SearchSpace
from pipeline.structures import Inputs

SHARES = tuple(number / 64 for number in range(63, 0, -1))
"""Of the channels that are kept, the widest first."""

Kept = Mapping[str, int]
"""Group → channels that stay."""
Narrowing = Callable[[float], Kept]
"""From the share that is kept to the channels of each group."""


def uniform(space: SearchSpace, minimum: Mapping[str, int]) -> Narrowing:
    """Return plans that keep the same share of every group.

    Args:
        minimum: pattern of a layer's name → channels that it keeps at least.
    """
    return lambda share: {
        group.name: _rounded(group, share * group.channels, space.step, minimum) for group in space.groups
    }


def above_threshold(space: SearchSpace, minimum: Mapping[str, int], scores: Mapping[str, Tensor]) -> Narrowing:
    """Return plans that keep the highest scores of the whole network: Network Slimming's global threshold.

    Liu et al., 2017, section 3. A group keeps at least one unit, or what ``minimum`` says.
    """
    everything = torch.cat([scores[group.name] for group in space.groups]).sort(descending=True).values

    def kept(share: float) -> Kept:
        threshold = everything[max(1, math.ceil(share * len(everything))) - 1]
        return {
            group.name: _rounded(group, group.width * int((scores[group.name] >= threshold).sum()), space.step, minimum)
            for group in space.groups
        }

    return kept


def plans(narrowing: Narrowing, space: SearchSpace) -> list[tuple[float, Kept]]:
    """Return the different plans, the widest first, each with the largest share that gives it; the base is none."""
    found: dict[tuple[int, ...], tuple[float, Kept]] = {}
    for share in SHARES:
        kept = narrowing(share)
        found.setdefault(tuple(kept[group.name] for group in space.groups), (share, kept))
    found.pop(tuple(group.channels for group in space.groups), None)
    return list(found.values())


def from_widest(found: Sequence[tuple[float, Kept]], fits: Callable[[Kept], bool]) -> Iterator[tuple[float, Kept]]:
    """Yield the widest plan that fits, then the narrower ones; latency is taken to fall with the width.

    Halving the interval measures a handful of plans instead of all of them.
    """
    low, high = 0, len(found)
    while low < high:
        middle = (low + high) // 2
        if fits(found[middle][1]):
            high = middle
        else:
            low = middle + 1
    yield from found[low:]


def scales(network: fx.GraphModule, space: SearchSpace, example: Inputs) -> dict[str, Tensor] | None:
    """Return each unit's mean batch norm scale by group, (units,); None where some group has no batch norm."""
    groups = {group.name: dependency_graph(network, example).groups[group.name] for group in space.groups}
    evidence = Evidence(network, groups.values(), [])
    if not all(_has_norm(group, evidence) for group in groups.values()):
        return None
    return {name: combined(bn_scale.scores(group, evidence), CriterionConfig()) for name, group in groups.items()}


def _has_norm(group: Coupled, evidence: Evidence) -> bool:
    return any(isinstance(evidence.layer(part), _BatchNorm) for part in evidence.weights(group, "scales"))


def _rounded(group: Group, wanted: float, step: int, minimum: Mapping[str, int]) -> int:
    """Return whole units, rounded up to the device's step, at least as many channels as have to stay."""
    least = [channels for pattern, channels in minimum.items() if _fits(group, pattern)]
    channels = max([step * math.ceil(round(wanted / step, 9)), step, *least])
    return min(group.channels, group.width * math.ceil(channels / group.width))


def _fits(group: Group, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(layer, pattern) for layer in group.layers)
