"""Noise of a sensor: Gaussian, shot, impulse, speckle."""

from __future__ import annotations

import numpy as np

from pipeline.data.conditions.severities import Image, Severities

_GAUSSIAN = Severities((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
_PHOTONS = Severities((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
_IMPULSES = Severities((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
_SPECKLE = Severities((0.06, 0.10, 0.12, 0.16, 0.20), (0.15, 0.20, 0.35, 0.45, 0.60))


def gaussian_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Add normal noise, the same everywhere: a warm sensor's, its amplifier's."""
    return image + rng.standard_normal(image.shape, np.float32) * np.float32(_GAUSSIAN.of(image, severity))


def shot_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Count photons, few of them: Poisson noise."""
    return photons(image, _PHOTONS.of(image, severity), rng)


def impulse_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Set values to black or full at random, salt and pepper: bits that flip."""
    share, drawn = _IMPULSES.of(image, severity), rng.random(image.shape, np.float32)
    return np.where(drawn < share / 2, 0, np.where(drawn > 1 - share / 2, 1, image)).astype(np.float32)


def speckle_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Add normal noise that grows with the brightness: that of radar and ultrasound."""
    return image + image * rng.standard_normal(image.shape, np.float32) * np.float32(_SPECKLE.of(image, severity))


def photons(image: Image, most: float, rng: np.random.Generator) -> Image:
    """Return an image of which a white pixel counts ``most`` photons on average."""
    return (rng.poisson(np.clip(image, 0, 1) * most) / most).astype(np.float32)
