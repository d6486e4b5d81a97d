"""What may be pruned, and a plan: one pruning level for each group of coupled channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

LEVELS: tuple[int, ...] = (0, 25, 50, 75, 100)
"""Pruning levels in percent of a group's channels; 100 removes the block around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Coupled channels that are cut together, and what they weigh in the base model."""

    name: str
    """The root layer's qualified name."""
    layers: tuple[str, ...]
    """Every layer whose width changes with the group."""
    channels: int
    kept: Mapping[int, int]
    """Legal level in percent → channels kept; 0 is always legal; 100 → 0 removes the block."""
    macs: int
    """MACs of the base model that go if all of the group's channels go."""
    parameters: int
    bypass: str | None = None
    """The innermost block that goes at level 100, by its node in the graph; None: there is none, 100 is masked."""
    kernel: int = 1
    stride: int = 1
    reads: Mapping[str, float] = field(default_factory=dict)
    """Layers that read the group's channels → the share that these are of all that they read."""
    makes: Mapping[str, float] = field(default_factory=dict)
    """Layers that make or scale them → the share that these are of all that they make."""
    why_not_whole: str = ""
    """Why level 100 is not legal; empty where it is."""
    width: int = 1
    """Channels that come and go together: more than one in grouped convolutions and channel shuffles."""

    @property
    def units(self) -> int:
        """How many sets of channels can go one by one."""
        return self.channels // self.width

    @property
    def levels(self) -> tuple[int, ...]:
        """Legal levels, ascending."""
        return tuple(sorted(self.kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What may be cut in one model for one device."""

    groups: tuple[Group, ...]
    refused: Mapping[str, str]
    """Layers left whole → the reason."""
    macs: int
    parameters: int
    step: int
    layer_macs: Mapping[str, int] = field(default_factory=dict)
    """Every layer with weights → its MACs in the base model."""
    layer_parameters: Mapping[str, int] = field(default_factory=dict)
    refused_macs: Mapping[str, int] = field(default_factory=dict)
    """Layers left whole → the MACs that they hold."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Every weight tensor, in the order of the network's parameters, which is that of a plan's zeros → its values."""
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Each block that can go → the layers that go with it, those of blocks within it among them."""

    def inside(self, block: str) -> frozenset[str]:
        """Return the blocks that go with a block: itself, and those whose layers are all among its own."""
        own = set(self.blocks.get(block, ()))
        return frozenset([block, *(name for name, layers in self.blocks.items() if own > set(layers))])

    def kept(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """Return the channels each group keeps; all groups of a removed block, and of those within it, keep none.

        A block goes where any of its groups is at level 100, whatever level the others have.

        Raises:
            ValueError: the levels are another space's.
        """
        if other := next((level for g, level in zip(self.groups, levels, strict=True) if level not in g.kept), None):
            raise ValueError(f"there is no level {other} in this space")
        asked = {g.bypass for g, level in zip(self.groups, levels, strict=True) if level == 100 and g.bypass}
        removed = frozenset[str]().union(*(self.inside(block) for block in asked))
        return tuple(
            0 if g.bypass is not None and g.bypass in removed else g.kept[level]
            for g, level in zip(self.groups, levels, strict=True)
        )

    def key(self, levels: tuple[int, ...]) -> str:
        """Return the canonical name of a network's shape: plans that keep the same channels have the same."""
        return "-".join(map(str, self.kept(levels)))

    def network_key(self, plan: PruningPlan) -> str:
        """Return the canonical name of a plan's network: its shape's, and where weights are zero a digest of these."""
        zeros = f"+{sha256(repr(plan.zeros).encode()).hexdigest()[:12]}" if plan.zeros else ""
        return self.key(plan.levels) + zeros

    def zeros(self, plan: PruningPlan) -> dict[str, float]:
        """Return the share of each weight tensor that a plan sets to zero; nothing of a plan that cuts channels."""
        return dict(zip(self.weights, plan.zeros, strict=True)) if plan.zeros else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPlan:
    """One level per group, and the criterion that ranks the channels; or the single weights that become zero."""

    levels: tuple[int, ...]
    criterion: str = "l1"
    zeros: tuple[float, ...] = ()
    """Share of each weight tensor that is zero, the smallest values first; levels are all 0 then. In the order of
    ``SearchSpace.weights``; empty: no single weights are touched. Shares, not thresholds: on another checkpoint they
    leave as many weights, however these are spread."""
