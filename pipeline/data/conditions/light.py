"""Light: brightness, contrast, saturation, night.

Brightness and saturation are those of HSV: the largest of the channels, and by how much the smallest is less.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.conditions.noise import photons
from pipeline.data.conditions.severities import Image, Severities

_BRIGHTER = Severities((0.05, 0.10, 0.15, 0.20, 0.30), (0.1, 0.2, 0.3, 0.4, 0.5))
_CONTRAST = Severities((0.75, 0.50, 0.40, 0.30, 0.15), (0.40, 0.30, 0.20, 0.10, 0.05))
_SATURATION = Severities(
    ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
)
"""Factor, and what is added."""
_NIGHT = Severities(
    ((0.70, 400), (0.50, 250), (0.38, 180), (0.28, 130), (0.20, 90)),
    ((0.50, 200), (0.35, 120), (0.25, 80), (0.17, 50), (0.12, 35)),
)
"""Light that is left, and photons of a white pixel by day; ours: neither table has a night."""
_LEAST = 1e-6


def brightness(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Add light; colours keep hue and saturation."""
    value = image.max(2, keepdims=True)
    brighter = np.clip(value + np.float32(_BRIGHTER.of(image, severity)), 0, 1)
    lit: Image = np.where(value > _LEAST, image * (brighter / np.maximum(value, _LEAST)), brighter).astype(np.float32)
    return lit


def contrast(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Move all values towards their channel's mean."""
    mean = image.mean((0, 1), keepdims=True)
    nearer: Image = ((image - mean) * np.float32(_CONTRAST.of(image, severity)) + mean).astype(np.float32)
    return nearer


def saturate(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Take colour out at severities 1 and 2, add it from 3 on; grey stays grey."""
    factor, more = _SATURATION.of(image, severity)
    value = image.max(2, keepdims=True)
    found = (value - image.min(2, keepdims=True)) / np.maximum(value, _LEAST)
    wanted = np.where(found > _LEAST, np.clip(found * factor + more, 0, 1), 0)
    coloured: Image = (value - (value - image) * (wanted / np.maximum(found, _LEAST))).astype(np.float32)
    return coloured


def night(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Take light away, and count the photons that are left: low light, dark and noisy."""
    left, most = _NIGHT.of(image, severity)
    return photons(image * np.float32(left), most, rng)
