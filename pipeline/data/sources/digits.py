"""Handwritten digits that scikit-learn ships: 1,797 real scans, grey, 8x8; no download, no folder.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from pipeline.data.pools import MemoryPool
from pipeline.data.source import Source, SourceOptions
from pipeline.errors import DataError


def load(argument: str, options: SourceOptions) -> Source:  # noqa: ARG001 - every source takes both
    """Return the digits; pixels of 0 … 16 become 0 … 255, and augmentation moves them by one pixel.

    Raises:
        DataError: something follows the colon.
    """
    if argument:
        raise DataError(f"digits takes nothing after a colon (found {argument!r}); write: digits")
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    pool = MemoryPool(torch.from_numpy(images)[:, None], torch.from_numpy(digits.target.astype(np.int64)), shift=1)
    return Source(
        name="digits",
        classes=tuple("0123456789"),
        shape=(1, 8, 8),
        mean=(0.3053,),
        std=(0.3760,),
        train=pool,
        test=None,
    )
