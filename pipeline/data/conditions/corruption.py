"""Images under a condition: the same for one seed, whatever else is in the batch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.conditions.condition import Condition
from pipeline.data.conditions.kinds import KINDS

Images = NDArray[np.uint8]
"""Number x height x width x channels, of 1 channel or 3."""


def corrupt(images: Images, condition: Condition, *, seed: int = 0, indices: Sequence[int] | None = None) -> Images:
    """Return images as they look under a condition, uint8, N x H x W x C as they came; clean ones as they are.

    What is drawn for an image depends on the seed, its index and the kind alone: not on the other images, nor on the
    severity, so that severities of one image differ in nothing else.

    Args:
        images: of any size, 1 channel or 3.
        condition: see ``parse_condition``.
        seed: draws noise, clouds, directions.
        indices: each image's number in its data set; None: 0, 1, ….
    """
    if not condition.severity:
        return images
    kind, changed = KINDS[condition.kind], np.empty_like(images)
    numbers = range(len(images)) if indices is None else indices
    for place, (image, index) in enumerate(zip(images, numbers, strict=True)):
        rng = np.random.default_rng([seed, zlib.crc32(condition.kind.encode()), index])
        found = kind(image.astype(np.float32) / 255, condition.severity, rng)
        changed[place] = np.rint(np.clip(found, 0, 1) * 255)
    return changed
