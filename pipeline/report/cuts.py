"""Groups and uncut layers as rows of text, for terminal and page."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records import SearchSpace


@dataclass(frozen=True, slots=True)
class Cut:
    """One group of channels, or one layer that stays whole."""

    name: str
    channels: str
    levels: str
    """Legal ones, in percent; empty for what stays whole."""
    macs: str
    """Share of the base network's MACs that shrink with it."""
    remark: str
    """Why it stays, or why it cannot go as a whole."""


def cuts(space: SearchSpace) -> list[Cut]:
    """Return a row for each group in forward order, then one for each layer that stays whole."""
    found = [
        Cut(
            group.name,
            f"{group.channels}" + (f" by {group.width}" if group.width > 1 else ""),
            " ".join(map(str, group.levels)),
            f"{group.macs / space.macs:.1%}",
            f"not as a whole: {group.why_not_whole}" if group.why_not_whole else "",
        )
        for group in space.groups
    ]
    whole = [
        Cut(layer, "", "", f"{space.refused_macs.get(layer, 0) / space.macs:.1%}", f"stays whole: {why}")
        for layer, why in space.refused.items()
    ]
    return found + whole
