"""Streams: sequences of frames with segments of conditions and slow-down events, composed of answered frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deploy.controller import LONGEST_KEPT
from pipeline.adaptation.frames import Frames

SEGMENT_FRAMES = (50, 300)
"""For which a condition lasts."""
CLEAN_SHARE = 0.4
"""Of segments."""
RUN_FRAMES = 13.0
"""For which a coherent stream shows one image, on average; at least 3."""
EVENT_FRAMES, PAUSE_FRAMES, SLOWER = (20, 200), (100, 500), (1.5, 3.0)
"""Slow-down events, the pauses between them, and by how much a board is slower."""
JITTER, SPIKES, SPIKE = 0.04, 0.01, (1.3, 2.0)
"""Of every latency: standard deviation, and share and height of single slow ones."""
NEVER_ALIKE = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What the variants cost on the device, the cheapest first."""

    names: tuple[str, ...]
    costs: NDArray[np.float64]
    """Latency or energy, over the plain variant's."""
    latencies_ms: NDArray[np.float64]
    deadline_ms: float = math.inf

    def of_variants(self, variants: Sequence[int]) -> Ladder:
        """Return some of the variants, in that order."""
        chosen = list(variants)
        return Ladder(
            names=tuple(self.names[i] for i in chosen), costs=self.costs[chosen],
            latencies_ms=self.latencies_ms[chosen], deadline_ms=self.deadline_ms,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Streams:
    """Streams of equal length; all arrays begin with streams x frames."""

    frames: Frames
    ladder: Ladder
    condition: NDArray[np.int64]
    image: NDArray[np.int64]
    view: NDArray[np.int64]
    slower: NDArray[np.float64]
    """By which factor the board is slower than measured."""

    @property
    def shape(self) -> tuple[int, int]:
        """Streams, frames of each."""
        return self.condition.shape[0], self.condition.shape[1]

    @property
    def _place(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return self.condition, self.image, self.view

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class that is right."""
        return self.frames.labels[self.image]

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """... x variants."""
        return self.frames.answers[self._place]

    @cached_property
    def margins(self) -> NDArray[np.float32]:
        """... x variants."""
        return self.frames.margins[self._place]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """... x variants."""
        return np.asarray(self.answers == self.labels[..., None])

    @cached_property
    def statistics(self) -> NDArray[np.float32]:
        """... x 4."""
        return self.frames.statistics[self._place]

    @cached_property
    def differences(self) -> NDArray[np.float32]:
        """... x lags from 1 on: mean difference of thumbnails from the frame so many before, of 255."""
        thumbnails = self.frames.thumbnails[self._place]
        found = np.full((*self.shape, LONGEST_KEPT + 1), NEVER_ALIKE, np.float32)
        for lag in range(1, LONGEST_KEPT + 2):
            found[:, lag:, lag - 1] = np.abs(thumbnails[:, lag:] - thumbnails[:, :-lag]).mean((2, 3))
        return found


def compose(
    frames: Frames, ladder: Ladder, *, streams: int, length: int, coherent: bool, slows_down: bool, seed: int
) -> Streams:
    """Return streams of the frames.

    Args:
        frames: answered by the ladder's variants.
        ladder: their costs.
        streams: how many.
        length: frames of each.
        coherent: an image is shown for a while, each frame another view; else each frame is another image.
        slows_down: whether there are slow-down events and jitter.
        seed: of all that is drawn.
    """
    random = np.random.default_rng(seed)
    drawn = [_one(frames, length, coherent, slows_down, random) for _ in range(streams)]
    condition, image, view, slower = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return Streams(frames=frames, ladder=ladder, condition=condition, image=image, view=view, slower=slower)


def _one(
    frames: Frames, length: int, coherent: bool, slows_down: bool, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    conditions, images, views = frames.answers.shape[:3]
    condition, image = np.zeros(length, np.int64), random.integers(0, images, length)
    at = 0
    while at < length:
        until = at + int(random.integers(*SEGMENT_FRAMES))
        is_clean = conditions == 1 or random.random() < CLEAN_SHARE
        condition[at:until] = 0 if is_clean else random.integers(1, conditions)
        at = until
    at = 0
    while coherent and at < length:
        until = at + 2 + int(random.geometric(1 / (RUN_FRAMES - 2)))
        image[at:until] = random.integers(0, images)
        at = until
    slower = _slowdown(length, random) if slows_down else np.ones(length)
    return condition, image, random.integers(0, views, length), slower


def _slowdown(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    slower = np.ones(length)
    at = int(random.integers(0, PAUSE_FRAMES[1]))
    while at < length:
        until = at + int(random.integers(*EVENT_FRAMES))
        slower[at:until] = random.uniform(*SLOWER)
        at = until + int(random.integers(*PAUSE_FRAMES))
    slower *= np.exp(random.normal(0, JITTER, length))
    spikes = random.random(length) < SPIKES
    slower[spikes] *= random.uniform(*SPIKE, spikes.sum())
    return slower
