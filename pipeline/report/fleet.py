"""Boards of a run in words: one row each, what they differ by, and which figure over them counts."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records import BoardState, Fleet, OverBoards, VarianceComponents
from pipeline.report.table import uncertain

OVER: dict[OverBoards, str] = {
    "mean": "the boards' geometric mean",
    "worst": "the slowest board's",
    "q90": "the boards' 0.9 quantile",
}
NOTE = (
    "base model: its median latency there as the run began; ratios there: of every network to the base model, over "
    "those of all boards; drift: how much slower the base model was beside the last measurement than as the run began"
)
"""Goes with the table."""


@dataclass(frozen=True, slots=True)
class Row:
    """One board, as text."""

    board: str
    status: str
    measurements: str
    base: str
    effect: str
    drift: str


def rows(fleet: Fleet) -> list[Row]:
    """Return a row for each board."""
    return [_row(board) for board in fleet.boards]


def troubles(fleet: Fleet) -> list[str]:
    """Return a sentence for each board that measures no more: why, and what to do."""
    return [f"{board.name} is {board.status}: {board.why}" for board in fleet.boards if board.status != "measuring"]


def sentences(fleet: Fleet) -> list[str]:
    """Return what the boards differ by, and which figure over them counts."""
    counts = f"latency is {OVER[fleet.over]}"
    if fleet.components is None:
        return [f"{counts}; what boards differ by is not known: no network was measured on two of them yet"]
    return [f"{counts}; {components_in_words(fleet.components)}"]


def components_in_words(found: VarianceComponents) -> str:
    """Return variance components as people say them.

    >>> found = VarianceComponents(board=0.021, drift=0.3, interaction=0.004, noise=0.006, networks=5)
    >>> components_in_words(found).partition(", by")[0]
    'ratios differ by 2.1 % from board to board'
    """
    board, interaction, noise = (
        f"{100 * part:.2g} %" if part >= 0.01 else f"{100 * part:.2f} %"
        for part in (found.board, found.interaction, found.noise)
    )
    return (
        f"ratios differ by {board} from board to board, by {interaction} more for one network alone, by {noise} from "
        f"measurement to measurement, and move by {found.drift:.2g} of a board's own drift (standard deviations; "
        f"{found.networks} network{'s' if found.networks > 1 else ''} on several boards)"
    )


def _row(board: BoardState) -> Row:
    effect = board.effect
    return Row(
        board=board.name,
        status=board.status,
        measurements=str(board.measurements),
        base="" if board.base_ms is None else uncertain(board.base_ms, "ms"),
        effect="" if effect is None else f"{100 * (effect.value - 1):+.1f} % ±{100 * effect.half_width:.1f}",
        drift="" if board.slowdown is None else f"{100 * board.slowdown:+.1f} %",
    )
