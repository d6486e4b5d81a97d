"""Boards that measure for one run side by side: which one measured what, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from pipeline.records.quantities import Count, Interval, Positive

OverBoards = Literal["mean", "worst", "q90"]
"""Which figure over a run's boards counts: their geometric mean, the slowest board's, or their 0.9 quantile."""
Status = Literal["measuring", "lost", "quarantined"]
Deviation = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBoard:
    """Which of a run's boards measured a network, and how fast that board was just then."""

    name: str
    network: str
    """Networks of one name take the same time."""
    slowdown: float
    """The base model's latency beside it over the one that the run began with on this board, less one."""
    ratio: Positive | None = None
    """The latency ratio as measured there, where the measurement's own says what it is over all boards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceComponents:
    """What latency ratios differ by, as standard deviations of their logarithm; see ``measurement.board_model``."""

    board: Deviation
    """From board to board, of every network alike."""
    drift: Deviation
    """Of how much a ratio moves, over how much its board has become slower."""
    interaction: Deviation
    """From board to board, of one network alone."""
    noise: Deviation
    """Of one measurement, by its interval: root mean square."""
    networks: Count
    """That were measured on several boards: what tells the components apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """One board of a run: whether it still measures, and what is known of it."""

    name: str
    status: Status = "measuring"
    why: str = ""
    """Why it measures no more, and what to do."""
    base_ms: Interval | None = None
    """The base model's median latency there, as the run began."""
    measurements: Annotated[int, Ge(0)] = 0
    busy_s: Annotated[float, Ge(0)] = 0.0
    """Seconds of these measurements."""
    slowdown: float | None = None
    """The base model's latency beside the last of them over ``base_ms``, less one."""
    effect: Interval | None = None
    """Latency ratios there over those of all boards; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The boards of a run, and by what their figures differ."""

    over: OverBoards
    boards: tuple[BoardState, ...]
    components: VarianceComponents | None = None
    """None: no network was measured on two of them yet."""
