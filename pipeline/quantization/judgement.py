"""Accuracy of an INT8 or FP16 file beside its float parent, on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dataset import Split
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.signature import packed
from pipeline.measurement.intervals import NORMAL_95
from pipeline.records import Interval

LARGEST_DROP = 0.01
"""Share of right answers that may be lost before something is done about it."""
LEAST_AGREEMENT = 0.95
_BATCH = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Shares of images: answered right by either file, and put into the same class by both."""

    images: int
    float32: float
    int8: float
    """Or FP16's, where that is what was judged."""
    agreement: float
    change: Interval
    """Its share of right answers less float's, paired image by image (McNemar)."""

    @property
    def is_good(self) -> bool:
        """Whether it loses as little as is usual; a loss that may be chance, as of few images, counts for none."""
        is_loss = self.change.value < -LARGEST_DROP and self.change.high < 0
        return not is_loss and self.agreement >= LEAST_AGREEMENT


class Parent:
    """The float file's answers to one split, read once."""

    def __init__(self, file: bytes, split: Split, limit: int | None = None) -> None:
        """Read the answers to the first ``limit`` images; None: to all."""
        self._split, self._limit = split, limit
        self._classes = _classes(file, split, limit)
        self._labels = split.labels[:limit].numpy()

    def judge(self, file: bytes) -> Judgement:
        """Return how an INT8 file answers the same images."""
        return judgement(self._labels, self._classes, _classes(file, self._split, self._limit))


def judgement(labels: NDArray[np.int64], before: NDArray[np.int64], after: NDArray[np.int64]) -> Judgement:
    """Return how classes found in another precision compare with those found in float32.

    Args:
        labels: the right ones.
        before: found in float32.
        after: found in the other precision.
    """
    right_before, right = before == labels, after == labels
    return Judgement(
        images=len(after),
        float32=float(right_before.mean()),
        int8=float(right.mean()),
        agreement=float((after == before).mean()),
        change=paired_change(right_before, right),
    )


def paired_change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Interval:
    """Return the change of a share of right answers on the same images, with its 95 % interval.

    Only images that one file answers right and the other wrong tell anything of it; one more of each kind is counted
    than there were (Agresti and Min, Statistics in Medicine 24, 2005), so that none at all is not taken for certainty.
    """
    lost, won, count = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    more, less, images = won + 0.5, lost + 0.5, count + 2
    middle = (more - less) / images
    half = NORMAL_95 * math.sqrt(more + less - (more - less) ** 2 / images) / images
    change = (won - lost) / count
    return Interval(change, min(change, middle - half), max(change, middle + half))


def _classes(file: bytes, split: Split, limit: int | None) -> NDArray[np.int64]:
    scores = open_on_host(file)
    parts = [scores(packed(images)).argmax(1) for images, _ in split.batches(_BATCH, limit=limit)]
    found: NDArray[np.int64] = np.concatenate(parts)
    return found
