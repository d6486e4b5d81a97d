"""Speed-up diagnosis: why a network does not get faster on a device, reported before a search is spent on it.

Compares what single cuts save in time with what they take in MACs and in weights (roofline: Williams, Waterman and
Patterson, "Roofline: An Insightful Visual Performance Model", 2009). A pure function of space and tables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.cost_model import CostTable, size_savings, with_blocks
from pipeline.predictors.layer_costs import Shrinking
from pipeline.records import LEVELS, SearchSpace

Array = NDArray[np.float64]

_SLOW = 0.5
"""A network is slow to shrink where its deepest cut saves less than this share of what it takes in MACs."""
_LEAST_TAKEN = 0.2
"""Nothing can be said of a network of whose MACs less than this can be taken."""
_BETTER_FIT = 0.5
"""Time goes with the weights where they leave less than this share of what MACs leave unexplained."""
_FEWEST_CUTS = 4
_MANY = 1 / 3
_REMOVED = len(LEVELS) - 1


def why_not_faster(
    space: SearchSpace, latency: CostTable, base_ms: float, *, unshaped: SearchSpace | None = None
) -> list[str]:
    """Return what stands between a network and less latency on this board, in sentences; none where all is well.

    Args:
        space: what may be cut.
        latency: what single cuts save, as measured.
        base_ms: the base model's latency.
        unshaped: the space before the levels that save nothing were masked.
    """
    sentences = _unaligned(unshaped, space) if unshaped is not None else []
    macs = CostTable(_macs_savings(space), latency.owner, Shrinking.of(space), parent=latency.parent)
    narrowest = _deepest(space)
    time_left, macs_left = (
        float(np.clip(table.predict(narrowest[None])[0] / table.whole, 0.0, 1.0)) for table in (latency, macs)
    )
    if 1 - macs_left < _LEAST_TAKEN or 1 - time_left >= _SLOW * (1 - macs_left):
        return sentences
    shares = (
        f"with every group cut as deep as it goes, {macs_left:.0%} of the MACs stay and {time_left:.0%} of the time"
    )
    if _goes_with_weights(space, latency):
        return [
            *sentences,
            f"memory-bound: {shares}; what cuts save goes with the weights that are no longer read, not with the MACs: "
            "cut where the parameters are, or quantise",
        ]
    return [*sentences, f"launch-bound: {shares}; {_per_layer(space, base_ms * time_left)}{_removals(space, latency)}"]


def _per_layer(space: SearchSpace, left_ms: float) -> str:
    layers = max(1, len(space.layer_macs))
    each = f"{left_ms / layers:.3g} ms" if left_ms >= layers else f"{left_ms / layers * 1000:.3g} µs"
    return f"that is {each} for each of {layers} layers, however narrow it is, so fewer channels do not help"


def _removals(space: SearchSpace, latency: CostTable) -> str:
    """Return what removing blocks would do, where any can go."""
    blocks = [i for i, group in enumerate(space.groups) if 100 in group.kept and latency.owner[i] == i]
    if not blocks:
        return ", and no block can be removed: a network of fewer layers would"
    saved = latency.savings[blocks, _REMOVED] / latency.whole
    most, mean = np.nanmax(saved), np.nanmean(saved)
    return f"; removing whole blocks does: {len(blocks)} can go, each saves {mean:.1%} on average, one {most:.1%}"


def _unaligned(before: SearchSpace, after: SearchSpace) -> list[str]:
    """Say that many levels were masked, and show one."""
    gone = [
        (old, level, max(lv for lv in new.kept if lv < level))
        for old, new in zip(before.groups, after.groups, strict=True)
        for level in old.kept
        if level not in new.kept
    ]
    levels = sum(1 for group in before.groups for level in group.kept if level not in (0, 100))
    if not gone or len(gone) < _MANY * levels:
        return []
    group, level, instead = gone[0]
    return [
        f"unaligned: {len(gone)} of {levels} levels save nothing on this board and are masked, since it computes "
        f"channels in blocks: {group.kept[level]} channels of {group.name} take as long as {group.kept[instead]}"
    ]


def _goes_with_weights(space: SearchSpace, latency: CostTable) -> bool:
    """Return whether the parameters that cuts take explain what they save much better than the MACs do."""
    known = np.isfinite(latency.savings) & (np.arange(len(LEVELS)) > 0)
    saved = latency.savings[known]
    if len(saved) < _FEWEST_CUTS or not saved.any():
        return False
    by_weights, by_macs = (_unexplained(table[known], saved) for table in (size_savings(space), _macs_savings(space)))
    return by_weights < _BETTER_FIT * by_macs and by_weights < _BETTER_FIT


def _unexplained(taken: Array, saved: Array) -> float:
    """Return the share of the savings' variation that a straight line in what is taken does not explain."""
    design = np.stack([np.ones_like(taken), np.nan_to_num(taken)], 1)
    answer, *_ = np.linalg.lstsq(design, saved, rcond=None)
    spread = float(((saved - saved.mean()) ** 2).sum())
    return float(((saved - design @ answer) ** 2).sum()) / spread if spread > 0 else 1.0


def _macs_savings(space: SearchSpace) -> Array:
    """Return the share of the MACs that each group takes at each level, (groups, levels), as ``size_savings``."""
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        for level, kept in group.kept.items():
            savings[i, LEVELS.index(level)] = (1 - kept / group.channels) * group.macs / space.macs
    return with_blocks(savings, space, {name: macs / space.macs for name, macs in space.layer_macs.items()})


def _deepest(space: SearchSpace) -> NDArray[np.int64]:
    """Return the plan that cuts every group as deep as it goes and removes none, (groups,)."""
    return np.array([max(LEVELS.index(level) for level in group.kept if level != 100) for group in space.groups])
