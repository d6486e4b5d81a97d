"""Blur: a lens out of focus, a camera that moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.data.conditions.severities import Image, Severities, scale

Kernel = NDArray[np.float64]

_DEFOCUS = Severities(
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
)
"""Radius of the disk, and deviation of the blur that smooths its edge, pixels."""
_MOTION = Severities(
    ((6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5)),
    ((10.0, 3.0), (15.0, 5.0), (15.0, 8.0), (15.0, 12.0), (20.0, 15.0)),
)
"""Length, and deviation of what is left along it, pixels."""
_FINER = 8
"""Points a pixel and direction at which a disk is sampled."""
_MOST_ANGLE = 45.0


def defocus_blur(image: Image, severity: int, rng: np.random.Generator) -> Image:  # noqa: ARG001 - all take it
    """Spread each pixel over a disk: out of focus."""
    radius, edge = _DEFOCUS.of(image, severity)
    return _convolved(image, disk(radius * scale(image), edge))


def motion_blur(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Draw each pixel out along a line, up to 45 degrees off the horizontal: a camera that moves."""
    length, deviation = _MOTION.of(image, severity)
    return drawn_out(image, length, deviation, rng.uniform(-_MOST_ANGLE, _MOST_ANGLE))


def drawn_out(image: Image, length: float, deviation: float, angle: float) -> Image:
    """Return an image whose pixels are drawn out to one side.

    Args:
        image: any number of channels.
        length: of the trace; in pixels of the table's images, as the next.
        deviation: of the normal curve by which it fades.
        angle: of its direction, degrees.
    """
    grown = scale(image)
    return _convolved(image, trace(length * grown, deviation * grown, angle))


def disk(radius: float, edge: float) -> Kernel:
    """Return a disk's kernel, the share of each pixel that it covers, its edge smoothed."""
    reach = int(np.ceil(radius + 3 * edge))
    fine = (np.arange(-reach * _FINER - _FINER // 2, (reach + 1) * _FINER - _FINER // 2) + 0.5) / _FINER
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).astype(float)
    side = 2 * reach + 1
    covered = inside.reshape(side, _FINER, side, _FINER).sum((1, 3))
    kernel = ndimage.gaussian_filter(covered, edge, mode="constant")
    return np.asarray(kernel / kernel.sum())


def trace(length: float, deviation: float, angle: float) -> Kernel:
    """Return the kernel of a line from the middle to one side that fades."""
    reach = max(1, int(np.ceil(length)))
    along = np.linspace(0, length, _FINER * reach + 1)
    radians = np.deg2rad(angle)
    kernel: Kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = (np.rint(reach + along * part).astype(int) for part in (np.sin(radians), np.cos(radians)))
    np.add.at(kernel, (rows, columns), np.exp(-(along**2) / (2 * deviation**2)))
    return np.asarray(kernel / kernel.sum())


def _convolved(image: Image, kernel: Kernel) -> Image:
    blurred: Image = ndimage.convolve(image, kernel[:, :, None].astype(np.float32), mode="reflect")
    return blurred
