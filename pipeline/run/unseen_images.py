"""Images that no network of a ladder was trained on: to tune by, to select by, to judge by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.data import DataSet
from pipeline.data.dataset import Split
from pipeline.records import Figures

SURELY = 3.0
"""Standard errors by which a base model has to be better on the search split than on the test split to have seen it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenImages:
    """Disjoint parts."""

    tuning: Split
    selection: Split
    test: Split
    note: str
    """What was remarkable about the division; empty: nothing."""


def unseen_images(data: DataSet, base: Figures) -> UnseenImages:
    """Return halves of the validation split, and the test split.

    Weights that a user brings have often seen all training images, the validation split's among them. Then they answer
    these better than the test split's, and it is the test split that is divided.

    Args:
        data: with its four splits.
        base: the base model's figures on the search split and on the test split.
    """
    if not has_seen(base, len(data.search), len(data.test)):
        tuning, selection = _every_second(data.val)
        return UnseenImages(tuning=tuning, selection=selection, test=data.test, note="")
    return divided_test(data, f"the base answers {base.search_accuracy:.1%} of the search split right and "
                              f"{base.test_accuracy or 0:.1%} of the test split")  # fmt: skip


def divided_test(data: DataSet, why: str) -> UnseenImages:
    """Return the test split in parts: one half tunes and selects, the other half judges.

    Args:
        data: with its test split.
        why: it is divided.
    """
    first, judging = _every_second(data.test)
    tuning, selection = _every_second(first)
    said = f"{why}: its weights have seen the training images, so half of the test split tunes, the other half judges"
    return UnseenImages(tuning=tuning, selection=selection, test=judging, note=said)


def has_seen(base: Figures, search_images: int, test_images: int) -> bool:
    """Return whether a base model is surely better on the search split than on the test split (two-sample z-test)."""
    if base.test_accuracy is None:
        return False
    found = ((base.search_accuracy, search_images), (base.test_accuracy, test_images))
    error = math.sqrt(sum(share * (1 - share) / count for share, count in found))
    return base.search_accuracy - base.test_accuracy > SURELY * max(error, 1e-9)


def _every_second(images: Split) -> tuple[Split, Split]:
    """Return two halves; a split's order mixes the classes."""
    first, second = (Split(images.pool, images.indices[at::2], images.mean, images.std) for at in (0, 1))
    return first, second
