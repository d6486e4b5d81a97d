"""Layer costs: a layer's savings by its input and output channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.records import LEVELS, Group, SearchSpace

Array = NDArray[np.float64]

_REMOVED = len(LEVELS) - 1
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Shrinking:
    """Which layers shrink with which group, and by how much."""

    weights: Array
    """Of each layer, MACs or parameters, (layers,)."""
    shares: Array
    """Share of what each layer reads, and of what it makes, that belongs to a group, (groups, 2, layers)."""
    gone: Array
    """Share of a group's channels that goes at each level, (groups, levels)."""

    @classmethod
    def apart(cls, groups: int) -> Shrinking:
        """Return groups that share no layer: their savings add up."""
        shares = np.stack([np.zeros((groups, groups)), np.eye(groups)], 1)
        return cls(np.ones(groups), shares, np.ones((groups, len(LEVELS))))

    @classmethod
    def of(cls, space: SearchSpace, *, parameters: bool = False) -> Shrinking | None:
        """Return what is known of a space's layers, weighed by MACs or by parameters; None: nothing."""
        weights = space.layer_parameters if parameters else space.layer_macs
        if not all(any(weights.get(layer) for layer in (*g.reads, *g.makes)) for g in space.groups):
            return None
        sides = [[[side.get(layer, 0.0) for layer in weights] for side in (g.reads, g.makes)] for g in space.groups]
        gone = [[_gone(group, level) for level in LEVELS] for group in space.groups]
        return cls(np.array([float(weight) for weight in weights.values()]), np.array(sides), np.array(gone))


@dataclass(frozen=True, slots=True)
class Layers:
    """What each group's level takes of each layer."""

    most: Array
    """What each layer would save if it went whole, (layers,)."""
    taken: Array
    """Shares of what layers read and make, (groups, levels, 2, layers)."""
    within: Mapping[int, int] = field(default_factory=dict)
    """First group of a block that lies within another → the first group of that one."""

    @classmethod
    def of(
        cls, savings: Array, owner: NDArray[np.int64], shrinking: Shrinking, within: Mapping[int, int] | None = None
    ) -> Layers:
        """Spread savings, (groups, levels), over the layers that shrink with each group, by weight.

        Args:
            savings: as in ``CostTable``; nan saves nothing.
            owner: for each group the first group of its block, which carries what the whole block saves.
            within: first group of a block that lies within another → the first group of that one, which is before it.
        """
        within = within or {}
        saved = np.nan_to_num(savings)[:, :, None, None]
        shares = shrinking.shares
        blocks = np.array([shares[owner == first].max(0, initial=0.0) for first in range(len(owner))])
        for inner in sorted(within, reverse=True):
            blocks[within[inner]] = np.maximum(blocks[within[inner]], blocks[inner])
        blocks[:, 1] = np.where(blocks[:, 0] > 0, 0.0, blocks[:, 1])  # a layer that goes on both sides goes once
        spread = saved * _as_parts(shrinking.weights * shares)[:, None]
        spread[:, _REMOVED] = saved[:, _REMOVED] * _as_parts(shrinking.weights * blocks)
        cut = _deepest(shrinking.gone)[:, :, None, None] * shares[:, None]
        cut[:, _REMOVED] = blocks
        whole = np.divide(spread, cut, out=np.zeros_like(spread), where=cut > 0)
        most = np.maximum(whole.max((0, 1, 2)), _NOTHING)
        taken = spread / most
        taken[owner != np.arange(len(owner)), _REMOVED] = 0.0
        return cls(most, taken, within)

    def taken_by(self, levels: NDArray[np.int64]) -> Array:
        """Return what plans, (plans, groups), take of layers, (plans, 2, layers); removed blocks are so as a whole."""
        taken = np.zeros((len(levels), *self.taken.shape[2:]))
        for group, chosen in enumerate(levels.T):
            own = self.taken[group][chosen]
            if group in self.within:
                own[levels[:, self.within[group]] == _REMOVED] = 0.0
            taken += own
        return taken

    def saved(self, taken: Array) -> Array:
        """Return what is saved in all layers together, (...,), where so much of them is taken, (..., 2, layers)."""
        left = 1 - np.minimum(taken, 1.0)
        total: Array = (1 - left[..., 0, :] * left[..., 1, :]) @ self.most
        return total


def _gone(group: Group, level: int) -> float:
    return 1 - group.kept.get(level, group.channels) / group.channels


def _deepest(gone: Array) -> Array:
    """Return what goes at each group's deepest cut, which tells best what its layers cost; nothing at other levels."""
    cuts = gone[:, :_REMOVED]
    deepest = np.zeros_like(gone)
    deepest[:, :_REMOVED] = np.where(cuts == cuts.max(1, keepdims=True), cuts, 0.0)
    return deepest


def _as_parts(weights: Array) -> Array:
    """Return weights, (groups, 2, layers), as parts of each group's sum."""
    parts: Array = weights / np.maximum(weights.sum((1, 2), keepdims=True), _NOTHING)
    return parts
