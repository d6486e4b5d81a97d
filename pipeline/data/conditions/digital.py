"""What comes between scene and file: JPEG, few pixels, something in front of the lens."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

from pipeline.data.conditions.severities import Image, Severities

_QUALITY = Severities((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
_PIXELS = Severities((0.95, 0.90, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
"""Share of the side."""
_PATCH = (0.16, 0.22, 0.28, 0.34, 0.40)
"""Side of what is in front, as a share of the image's; ours."""


def jpeg(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Compress much: blocks, and edges that ring."""
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=_QUALITY.of(image, severity))
    return _values(PIL.Image.open(file))


def pixelate(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Scale down, each pixel the mean of those that it is made of, and up again."""
    share, (height, width) = _PIXELS.of(image, severity), image.shape[:2]
    box = PIL.Image.Resampling.BOX
    small = _picture(image).resize((max(1, int(width * share)), max(1, int(height * share))), box)
    return _values(small.resize((width, height), box))


def occlusion(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Put a square of one colour somewhere in front."""
    height, width, channels = image.shape
    rows, columns = (max(1, round(_PATCH[severity - 1] * side)) for side in (height, width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    covered = image.copy()
    covered[top : top + rows, left : left + columns] = rng.random(channels, np.float32)
    return covered


def _picture(image: Image) -> PIL.Image.Image:
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _values(picture: PIL.Image.Image) -> Image:
    pixels: Image = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
