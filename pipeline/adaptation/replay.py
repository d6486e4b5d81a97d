"""Replay: a policy's decisions over streams of answered frames, many settings at once.

It decides as ``deploy.controller`` does on a board, frame by frame; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy import controller
from deploy.controller import FAST_DECAY, KEEP, LATENESS_DEVIATIONS, LONGEST_KEPT, SLOW_DECAY, SLOWDOWN_GAIN
from deploy.controller import STATISTICS_DECAY as DECAY
from pipeline.adaptation.streams import Streams

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Memory:
    """What a controller remembers, a row for each setting and stream; see ``deploy.controller.State``."""

    def __init__(self, streams: Streams, settings: int) -> None:
        """Begin before the first frame; rows are settings x streams."""
        start = controller.State()
        count = settings * streams.shape[0]
        self.stream: Ints = np.tile(np.arange(streams.shape[0]), settings)
        self.setting: Ints = np.repeat(np.arange(settings), streams.shape[0])
        self.answer, self.variant, self.age = np.full(count, -1), np.full(count, -1), np.zeros(count, np.int64)
        self.margin, self.fast, self.slow = (np.full(count, start.margin) for _ in range(3))
        self.disagreement = np.full(count, start.disagreement)
        self.mean, self.deviation = np.full(count, start.slowdown.mean), np.full(count, start.slowdown.deviation)
        self.statistics: NDArray[np.float32] | None = None

    @property
    def expected(self) -> Floats:
        """The slow-down that variants are held against the deadline with."""
        return self.mean + LATENESS_DEVIATIONS * self.deviation

    def see(self, statistics: NDArray[np.float32]) -> None:
        """Take in a frame's statistics."""
        if self.statistics is None:
            self.statistics = statistics
        else:
            self.statistics = np.float32(DECAY) * self.statistics + np.float32(1 - DECAY) * statistics

    def inputs(self, difference: Floats) -> NDArray[np.float32]:
        """Return the learned policy's inputs, rows x ``deploy.controller.INPUTS``."""
        assert self.statistics is not None
        rest = (np.log(0.5 + difference), self.margin, self.fast, self.slow, self.disagreement, self.age / LONGEST_KEPT)
        return np.concatenate([self.statistics, np.stack(rest, 1)], 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of every row."""

    streams: Streams
    memory: Memory
    at: int
    difference: Floats
    """From the frame that was answered last."""
    fits: NDArray[np.bool_]
    """Rows x variants: whether a variant is in time, by what is known of the slow-down."""

    def of(self, values: NDArray[np.generic], variant: Ints) -> NDArray[np.generic]:
        """Return one variant's value in each row, of an array streams x frames x variants."""
        return values[self.memory.stream, self.at, variant]  # type: ignore[no-any-return]


class Policy(Protocol):
    """Decides for all rows at once; settings differ from row to row."""

    settings: int
    """How many."""

    def first(self, moment: Moment) -> Ints:
        """Return the variant that starts in each row, or KEEP."""

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Return the variant that answers in the end; where it is ``first``, no other is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Shares and means over the frames of each stream; settings x streams."""

    accuracy: Floats
    cost: Floats
    """Of a frame, over one inference of the plain variant."""
    late: Floats
    switches: Floats
    """Of a frame: another variant answers than before."""
    kept: Floats
    escalated: Floats

    def of_settings(self, which: Ints | list[int]) -> Outcome:
        """Return some of the settings."""
        return Outcome(**{name: getattr(self, name)[which] for name in _FIGURES})


_FIGURES = ("accuracy", "cost", "late", "switches", "kept", "escalated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Every decision of the first setting; frames x streams."""

    first: Ints
    """KEEP, or the variant that started."""
    last: Ints
    ms: Floats
    right: NDArray[np.bool_]
    late: NDArray[np.bool_]


def replay(streams: Streams, policy: Policy) -> Outcome:
    """Return what becomes of every setting of a policy."""
    return _replayed(streams, policy, None)


def trace(streams: Streams, policy: Policy) -> Trace:
    """Return every decision of a policy's first setting."""
    rows: list[tuple[NDArray[np.generic], ...]] = []
    _replayed(streams, policy, rows)
    count = streams.shape[0]
    first, last, ms, right, late = (np.stack([part[:count] for part in parts]) for parts in zip(*rows, strict=True))
    return Trace(first=first, last=last, ms=ms, right=right, late=late)


def _replayed(streams: Streams, policy: Policy, rows: list[tuple[NDArray[np.generic], ...]] | None) -> Outcome:
    ladder, memory = streams.ladder, Memory(streams, policy.settings)
    latencies, costs, deadline = ladder.latencies_ms, ladder.costs, ladder.deadline_ms
    sums = {name: np.zeros(len(memory.stream)) for name in _FIGURES}
    for at in range(streams.shape[1]):
        moment = _moment(streams, memory, at)
        slower = streams.slower[memory.stream, at]
        first = policy.first(moment)
        kept = first == KEEP
        started = np.where(kept, 0, first)
        first_ms = latencies[started] * slower
        in_time = memory.expected[:, None] * latencies <= (deadline - first_ms)[:, None]
        second = np.where(kept, started, policy.second(moment, started, in_time))
        escalated = second != started
        ms = np.where(kept, 0.0, first_ms + np.where(escalated, latencies[second] * slower, 0.0))
        late = ms > deadline
        answers = moment.of(streams.answers, second)
        shown = np.where(kept | late, memory.answer, answers)
        right = shown == streams.labels[memory.stream, at]
        switched = ~kept & (memory.variant >= 0) & (second != memory.variant)
        cost = np.where(kept, 0.0, costs[started] + np.where(escalated, costs[second], 0.0))
        for name, values in zip(_FIGURES, (right, cost, late, switched, kept, escalated), strict=True):
            sums[name] += values
        if rows is not None:
            rows.append((first, np.where(kept, KEEP, second), ms, right, late))
        _take(memory, moment, started, second, kept, escalated, slower)
    shape = (policy.settings, streams.shape[0])
    return Outcome(**{name: (total / streams.shape[1]).reshape(shape) for name, total in sums.items()})


def _moment(streams: Streams, memory: Memory, at: int) -> Moment:
    memory.see(streams.statistics[memory.stream, at])
    difference = streams.differences[memory.stream, at, memory.age].astype(np.float64)
    fits = memory.expected[:, None] * streams.ladder.latencies_ms <= streams.ladder.deadline_ms
    fits[:, 0] |= ~fits.any(1)
    return Moment(streams, memory, at, np.where(memory.answer < 0, 255.0, difference), fits)


def _take(
    memory: Memory, moment: Moment, first: Ints, second: Ints, kept: NDArray[np.bool_], escalated: NDArray[np.bool_],
    slower: Floats,
) -> None:  # fmt: skip
    """Take in what the variants answered; rows that kept their answer only grow older."""
    streams, asked = moment.streams, ~kept
    own, found = moment.of(streams.answers, first), moment.of(streams.answers, second)
    margin = moment.of(streams.margins, first).astype(np.float64)
    for name, decay in (("fast", FAST_DECAY), ("slow", SLOW_DECAY)):
        old = getattr(memory, name)
        setattr(memory, name, np.where(asked, decay * old + (1 - decay) * margin, old))
    differs = DECAY * memory.disagreement + (1 - DECAY) * (own != found)
    memory.disagreement = np.where(asked & escalated, differs, memory.disagreement)
    memory.answer, memory.variant = np.where(asked, found, memory.answer), np.where(asked, second, memory.variant)
    memory.margin = np.where(asked, moment.of(streams.margins, second), memory.margin)
    memory.age = np.where(asked, 0, memory.age + 1)
    error = slower - memory.mean
    memory.mean = np.where(asked, memory.mean + SLOWDOWN_GAIN * error, memory.mean)
    deviation = memory.deviation + SLOWDOWN_GAIN * (np.abs(error) - memory.deviation)
    memory.deviation = np.where(asked, deviation, memory.deviation)
