"""Rivals: networks that the user might have taken instead of the pruned one, beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.records import Baseline, Figures
from pipeline.report.table import NOT_MEASURED, ratio, size

NOTE = (
    "Rivals are other networks, not pruned here, measured on the same device beside the same base model and scored on "
    "the same test split."
)


@dataclass(frozen=True, slots=True)
class Rival:
    """One network as text."""

    network: str
    score: str
    latency: str
    size: str
    verdict: str
    """Whether it is the better choice, or no choice at all; empty where each of the two has something."""


def rivals(found: Sequence[Baseline], chosen: Figures) -> list[Rival]:
    """Return the pruned network and its rivals; nothing where there are none."""
    known = [(rival.name, rival.figures) for rival in found if rival.figures is not None]
    if not known:
        return []
    return [
        _row("pruned", chosen, ""),
        *(_row(f"rival {name}", figures, verdict(figures, chosen)) for name, figures in known),
    ]


def verdict(rival: Figures, chosen: Figures) -> str:
    """Return whether a rival is surely faster than the pruned network and scores no less, or the other way round."""
    his, ours = rival.measurement.ratio, chosen.measurement.ratio
    if his is None or ours is None or rival.test_accuracy is None or chosen.test_accuracy is None:
        return ""
    if his.high < ours.low and rival.test_accuracy >= chosen.test_accuracy:
        return "faster and no worse: take it instead"
    if his.low > ours.high and rival.test_accuracy <= chosen.test_accuracy:
        return "slower and no better"
    return ""


def _row(name: str, figures: Figures, verdict: str) -> Rival:
    latency = NOT_MEASURED if figures.measurement.ratio is None else ratio(figures.measurement.ratio)
    score = NOT_MEASURED if figures.test_accuracy is None else f"{figures.test_accuracy:.2%}"
    return Rival(name, score, latency, size(figures.size_bytes), verdict)
