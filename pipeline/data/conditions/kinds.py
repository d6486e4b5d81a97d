"""Kinds of corruption by name, and which of them one trains with and which are kept for judging.

After Hendrycks and Dietterich 2019 (arXiv 1903.12261), whose parameters these are; night and occlusion are ours. Their
own program needs OpenCV, ImageMagick and scikit-image, and so do the packages made of it (imagecorruptions, of 2020);
here numpy, scipy and Pillow do, and an image does not depend on what came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from pipeline.data.conditions.blur import defocus_blur, motion_blur
from pipeline.data.conditions.digital import jpeg, occlusion, pixelate
from pipeline.data.conditions.light import brightness, contrast, night, saturate
from pipeline.data.conditions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from pipeline.data.conditions.severities import Image
from pipeline.data.conditions.weather import fog, snow

Corruption = Callable[[Image, int, np.random.Generator], Image]
"""From an image and a severity, 1 to 5, to the image as it looks then; values beyond [0, 1] are cut off after it."""

KINDS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian-noise": gaussian_noise,
        "shot-noise": shot_noise,
        "impulse-noise": impulse_noise,
        "speckle-noise": speckle_noise,
        "defocus-blur": defocus_blur,
        "motion-blur": motion_blur,
        "fog": fog,
        "snow": snow,
        "brightness": brightness,
        "contrast": contrast,
        "night": night,
        "jpeg": jpeg,
        "pixelate": pixelate,
        "saturate": saturate,
        "occlusion": occlusion,
    }
)
JUDGING = ("speckle-noise", "motion-blur", "snow", "night", "occlusion")
"""Kept for judging: what is chosen or trained on other kinds has not seen these."""
TRAINING = tuple(kind for kind in KINDS if kind not in JUDGING)
COLOURS_ALONE = frozenset({"saturate"})
"""Leave grey images as they are."""
