"""Weather: fog, snow."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.data.conditions.blur import drawn_out
from pipeline.data.conditions.severities import Image, Severities, scale

_FOG = Severities(
    ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
)
"""How much of it, and by how much finer clouds are thinner than those of twice their size."""
_SNOW = Severities(
    (
        (0.10, 0.2, 1.0, 0.60, 8.0, 3.0, 0.95),
        (0.10, 0.2, 1.0, 0.50, 10.0, 4.0, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12.0, 6.0, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14.0, 12.0, 0.80),
    ),
    (
        (0.10, 0.3, 3.0, 0.50, 10.0, 4.0, 0.80),
        (0.20, 0.3, 2.0, 0.50, 12.0, 4.0, 0.70),
        (0.55, 0.3, 4.0, 0.90, 12.0, 8.0, 0.70),
        (0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55),
    ),
)
"""Mean and deviation of the flakes' brightness, their size in pixels, from which brightness on one is seen, length and
deviation of its trace, how much of the scene's own colour is left."""


def fog(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Add clouds of all sizes and bring the whole back to its brightness, which takes contrast."""
    amount, decay = _FOG.of(image, severity)
    brightest = float(image.max())
    foggy = image + amount * clouds(image.shape[0], image.shape[1], decay, rng)[:, :, None]
    return (foggy * (brightest / (brightest + amount))).astype(np.float32)


def snow(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Whiten the scene and let flakes fall across it, seen as traces."""
    mean, deviation, size, seen_from, length, fading, colour = _SNOW.of(image, severity)
    height, width = image.shape[:2]
    size = max(1.0, size * scale(image))
    coarse = rng.normal(mean, deviation, (int(np.ceil(height / size)) + 1, int(np.ceil(width / size)) + 1))
    flakes = ndimage.zoom(coarse, size, order=1)[:height, :width]
    flakes = np.clip(np.where(flakes < seen_from, 0, flakes), 0, 1).astype(np.float32)[:, :, None]
    flakes = drawn_out(flakes, length, fading, rng.uniform(-135, -45))
    whitened = np.maximum(image, image.mean(2, keepdims=True) * 1.5 + 0.5)
    snowy: Image = (colour * image + (1 - colour) * whitened + flakes + flakes[::-1, ::-1]).astype(np.float32)
    return snowy


def clouds(height: int, width: int, decay: float, rng: np.random.Generator) -> Image:
    """Return random clouds in [0, 1], height x width: noise of each size from the whole image's down to a pixel's.

    Args:
        height: pixels, as ``width``.
        width: as above.
        decay: so many times weaker is noise of half the size.
    """
    found, octaves = np.zeros((height, width)), max(1, round(np.log2(max(height, width))))
    for octave in range(1, octaves + 1):
        cells = 2**octave
        drawn = rng.random((cells, cells))
        found += ndimage.zoom(drawn, (height / cells, width / cells), order=1, grid_mode=True, mode="nearest") / (
            decay**octave
        )
    found -= found.min()
    return (found / max(float(found.max()), 1e-9)).astype(np.float32)
