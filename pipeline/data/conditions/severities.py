"""Severities: a corruption's parameter at severities 1 to 5, for small images and for large ones.

Hendrycks and Dietterich 2019 (arXiv 1903.12261) give two tables, for 32 x 32 pixels (CIFAR-10-C) and for 224 x 224
(ImageNet-C): a small image bears less. Lengths in pixels grow with the image's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""Height x width x channels, in [0, 1]."""
T = TypeVar("T")

MOST = 5
_SMALL_SIDE, _LARGE_SIDE = 32, 224
_LARGE_FROM = 96
"""Pixels of the shorter side from which an image counts as large: Tiny ImageNet's 64 are nearer to 32."""


@dataclass(frozen=True, slots=True)
class Severities(Generic[T]):
    """A parameter at each severity."""

    small: tuple[T, T, T, T, T]
    large: tuple[T, T, T, T, T]

    def of(self, image: Image, severity: int) -> T:
        """Return the parameter for an image of that size."""
        return (self.large if _is_large(image) else self.small)[severity - 1]


def scale(image: Image) -> float:
    """Return how many pixels of an image one pixel of its table's images is; of the smallest images one at least.

    >>> scale(np.zeros((64, 64, 3), np.float32)), scale(np.zeros((448, 448, 3), np.float32))
    (2.0, 2.0)
    """
    side = _side(image)
    return side / _LARGE_SIDE if _is_large(image) else max(1.0, side / _SMALL_SIDE)


def _is_large(image: Image) -> bool:
    return _side(image) >= _LARGE_FROM


def _side(image: Image) -> int:
    return min(len(image), len(image[0]))
