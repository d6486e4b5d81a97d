"""Frames: images in several views under several conditions, and what every variant answers to each, once.

Whatever is tuned, trained or judged afterwards is a replay of these answers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.controller import look, margin_of
from pipeline.data.conditions import CLEAN, Condition, corrupt
from pipeline.data.dataset import Split

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""What a variant's file answers to normalised images, N x C x H x W: one row each."""
OnFrames = Callable[[int], None]
"""Hears how many frames are done."""

_CHUNK_VALUES = 8_000_000
"""Of pixels that are corrupted at once, as floats of 8 bytes."""
_EXPOSURE = 0.05
_SHIFT = 16
"""A view is shifted by up to so small a part of the side."""


def conditions_of(kinds: Sequence[str], severities: Sequence[int]) -> tuple[Condition, ...]:
    """Return no corruption, and every kind at every severity.

    >>> [str(one) for one in conditions_of(["fog"], [1, 5])]
    ['clean', 'fog:1', 'fog:5']
    """
    return (CLEAN, *(Condition(kind, severity) for kind in kinds for severity in severities))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What is known of each frame; all arrays begin with conditions x images x views."""

    conditions: tuple[Condition, ...]
    labels: NDArray[np.int64]
    """Of the images alone."""
    statistics: NDArray[np.float32]
    """... x 4, as the controller looks at a frame."""
    thumbnails: NDArray[np.float32]
    """... x cells x cells, of 255."""
    answers: NDArray[np.int64]
    """... x variants: the likeliest class."""
    margins: NDArray[np.float32]
    """... x variants: between the two likeliest classes."""

    @property
    def count(self) -> int:
        """How many frames there are."""
        return int(np.prod(self.answers.shape[:3]))

    @property
    def right(self) -> NDArray[np.bool_]:
        """... x variants: whether the answer is the label."""
        return np.asarray(self.answers == self.labels[None, :, None, None])

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Conditions x variants: shares of right answers."""
        return np.asarray(self.right.mean((1, 2)))

    def of_variants(self, variants: Sequence[int]) -> Frames:
        """Return the same frames, answered by some of the variants, in that order."""
        chosen = list(variants)
        return replace(self, answers=self.answers[..., chosen], margins=self.margins[..., chosen])


def answer_frames(
    images: Split,
    variants: Sequence[Scores],
    conditions: Sequence[Condition],
    *,
    views: int,
    seed: int,
    on_frames: OnFrames = lambda _: None,
) -> Frames:
    """Show every image under every condition to every variant.

    Args:
        images: 8-bit images that none of the variants was trained on.
        variants: the cheapest first.
        conditions: as ``conditions_of`` gives them.
        views: of each image under each condition: shifted a little, brighter or darker by up to 5 %, noise drawn anew.
        seed: of views and corruptions.
        on_frames: hears how many frames are done.
    """
    pixels = images.pool.read(images.indices).numpy().transpose(0, 2, 3, 1)
    found: list[tuple[NDArray[np.float32], ...]] = []
    done = 0
    for condition in conditions:
        parts = []
        size = max(1, _CHUNK_VALUES // pixels[0].size // views)
        for at in range(0, len(pixels), size):
            frames = _frames(
                pixels[at : at + size], condition, views, np.random.default_rng([seed, at, _number(condition)])
            )
            parts.append(_answered(frames, images, variants))
            done += len(frames)
            on_frames(done)
        found.append(tuple(np.concatenate(values) for values in zip(*parts, strict=True)))
    statistics, thumbnails, answers, margins = (np.stack(values) for values in zip(*found, strict=True))
    shape = (len(conditions), len(pixels), views)
    return Frames(
        conditions=tuple(conditions), labels=images.labels.numpy().astype(np.int64),
        statistics=statistics.reshape(*shape, 4), thumbnails=thumbnails.reshape(*shape, *thumbnails.shape[2:]),
        answers=answers.reshape(*shape, -1).astype(np.int64), margins=margins.reshape(*shape, -1),
    )  # fmt: skip


def corrupted(pixels: NDArray[np.uint8], condition: Condition, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return images, N x H x W x C, under a condition."""
    return corrupt(pixels, condition, seed=int(random.integers(2**31)))


def _number(condition: Condition) -> int:
    """Return a seed of a condition that no list's order changes."""
    return zlib.crc32(str(condition).encode())


def _frames(
    pixels: NDArray[np.uint8], condition: Condition, views: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    return corrupted(_viewed(np.repeat(pixels, views, axis=0), random), condition, random)


def _viewed(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return each image as a camera's next frame would have it: shifted, the exposure another."""
    count, height, width, _ = pixels.shape
    shift = round(min(height, width) / _SHIFT)
    padded = np.pad(pixels, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corners = random.integers(0, 2 * shift + 1, (count, 2))
    moved = np.stack([padded[i, y : y + height, x : x + width] for i, (y, x) in enumerate(corners)])
    exposure = random.uniform(1 - _EXPOSURE, 1 + _EXPOSURE, (count, 1, 1, 1))
    return np.clip(moved * exposure + 0.5, 0, 255).astype(np.uint8)


def _answered(frames: NDArray[np.uint8], images: Split, variants: Sequence[Scores]) -> tuple[NDArray[np.float32], ...]:
    """Return statistics, thumbnails, and each variant's answers and margins."""
    seen = [look(frame) for frame in frames]
    fed = normalised(frames, images)
    answers, margins = [], []
    for variant in variants:
        scores = variant(fed)
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        answers.append(shares.argmax(1))
        margins.append(np.array([margin_of(one) for one in shares], np.float32))
    return (
        np.array([one.statistics for one in seen], np.float32),
        np.stack([one.thumbnail for one in seen]),
        np.stack(answers, 1).astype(np.float32),
        np.stack(margins, 1),
    )


def normalised(frames: NDArray[np.uint8], images: Split) -> NDArray[np.float32]:
    """Return 8-bit frames, N x H x W x C, as a network of these images takes them: N x C x H x W."""
    mean, std = (np.array(values, np.float32) for values in (images.mean, images.std))
    values = (frames.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
