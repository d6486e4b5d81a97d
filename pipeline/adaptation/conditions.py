"""Common corruptions of images at five severities, as D. Hendrycks and T. Dietterich have them (ICLR 2019)."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Images = NDArray[np.uint8]
_Floats = NDArray[np.float64]
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(images: Images, kind: str, severity: int, rng: np.random.Generator) -> Images:
    """Return images, N x height x width x channels, under a kind of corruption.

    Args:
        images: 8-bit pixels.
        kind: of ``TRAINING`` or ``JUDGING``.
        severity: 1 to 5.
        rng: of what is drawn at random.
    """
    found = _KINDS[kind](images / 255, severity - 1, rng)
    return (np.clip(found, 0, 1) * 255 + 0.5).astype(np.uint8)


def _gaussian_noise(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    return x + r.normal(0, (0.04, 0.06, 0.08, 0.10, 0.13)[s], x.shape)


def _shot_noise(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    photons = (500, 250, 100, 60, 35)[s]
    return r.poisson(x * photons) / photons


def _impulse_noise(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    share, drawn = (0.01, 0.02, 0.04, 0.07, 0.1)[s], r.random(x.shape)
    return np.where(drawn < share / 2, 0, np.where(drawn > 1 - share / 2, 1, x))


def _defocus_blur(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    sigma = (0.5, 0.7, 0.9, 1.1, 1.4)[s] * _scale(x)
    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0))


def _fog(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    n, height, width, _ = x.shape
    veil = np.zeros((n, height, width))
    for cells, weight in ((2, 1.0), (4, 0.7), (8, 0.4)):
        veil += weight * ndimage.zoom(r.random((n, cells, cells)), (1, height / cells, width / cells), order=1)
    low, high = veil.min((1, 2), keepdims=True), veil.max((1, 2), keepdims=True)
    share = (0.2, 0.35, 0.5, 0.65, 0.8)[s]
    return x * (1 - share) + share * (0.55 + 0.45 * ((veil - low) / (high - low))[..., None])


def _brightness(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    return x + (0.08, 0.15, 0.22, 0.3, 0.4)[s]


def _contrast(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * (0.7, 0.5, 0.35, 0.25, 0.15)[s] + mean


def _jpeg(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    quality = (60, 40, 25, 15, 8)[s]

    def compressed(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _each(x, compressed)


def _pixelate(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    height, width = x.shape[1:3]
    share = (26, 22, 18, 15, 12)[s] / 32
    small = max(1, round(width * share)), max(1, round(height * share))
    return _each(
        x, lambda image: image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)
    )


def _saturate(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    del r
    grey = x.mean(-1, keepdims=True)
    return grey + (x - grey) * (0.4, 0.1, 2.0, 3.0, 4.0)[s]


def _motion_blur(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    length = max(2, round((3, 4, 5, 7, 9)[s] * _scale(x)))
    kernel, angle = np.zeros((length, length)), r.uniform(0, np.pi)
    for at in np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * length):
        kernel[round((length - 1) / 2 + at * np.sin(angle)), round((length - 1) / 2 + at * np.cos(angle))] = 1
    return ndimage.convolve(x, (kernel / kernel.sum())[None, :, :, None], mode="reflect")


def _snow(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    flakes = (r.random(x.shape[:3]) < (0.01, 0.02, 0.035, 0.05, 0.08)[s]).astype(float)
    kernel = np.diag([0.3, 0.6, 1, 0.6, 0.3])
    flakes = np.clip(ndimage.convolve(flakes, kernel[None], mode="wrap"), 0, 1)[..., None]
    haze = (0.05, 0.1, 0.15, 0.2, 0.25)[s]
    return (x * (1 - haze) + haze * 0.85) * (1 - 0.8 * flakes) + 0.8 * flakes


def _speckle_noise(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    return x + x * r.normal(0, (0.06, 0.1, 0.15, 0.2, 0.28)[s], x.shape)


def _low_light(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    gain, photons = (0.7, 0.5, 0.38, 0.28, 0.2)[s], (400, 250, 180, 130, 90)[s]
    return r.poisson(x * gain * photons) / photons


def _occlusion(x: _Floats, s: int, r: np.random.Generator) -> _Floats:
    _, height, width, channels = x.shape
    side = max(1, round((5, 7, 9, 11, 13)[s] * min(height, width) / 32))
    covered = x.copy()
    for image in covered:
        top, left = r.integers(0, height - side + 1), r.integers(0, width - side + 1)
        image[top : top + side, left : left + side] = r.random(channels)
    return covered


def _scale(x: _Floats) -> float:
    return float(min(x.shape[1:3])) / 32


def _each(x: _Floats, change: Callable[[Image.Image], Image.Image]) -> _Floats:
    pixels = (x * 255 + 0.5).astype(np.uint8)
    planes = [np.asarray(change(Image.fromarray(one[..., 0] if one.shape[2] == 1 else one))) for one in pixels]
    return np.stack(planes).reshape(x.shape) / 255


_KINDS: dict[str, Callable[[_Floats, int, np.random.Generator], _Floats]] = {
    function.__name__[1:]: function
    for function in (
        _gaussian_noise, _shot_noise, _impulse_noise, _defocus_blur, _fog, _brightness, _contrast, _jpeg, _pixelate,
        _saturate, _motion_blur, _snow, _speckle_noise, _low_light, _occlusion,
    )
}  # fmt: skip
TRAINING = tuple(_KINDS)[:10]
"""Kinds that networks and controllers may be trained on."""
JUDGING = tuple(_KINDS)[10:]
"""Kinds kept for judging: nothing is trained or chosen on them."""
