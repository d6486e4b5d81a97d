"""Image files: opened, made RGB, scaled, cut to a square's centre or at random.

How an image becomes pixels is defined once, in the runtime library that every bundle carries, ``deploy.runtime``:
what a network is trained on is what its user's program gives it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deploy.runtime import as_colours, fit
from pipeline.data.pools import shifted_and_flipped
from pipeline.errors import DataError
from pipeline.regular_file import opened

T = TypeVar("T")
R = TypeVar("R")

BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What Pillow raises on files that are truncated, no image, or absurdly large."""
BILINEAR = "bilinear"
IMAGE_BYTES = 512 * 1024 * 1024
"""Most of an image file."""
CROP_AREA = 0.25
"""Least share of an image's area in a random crop. Inception's 0.08 is for large networks: A. Howard et al.,
arXiv:1704.04861, section 3.2, limit the small crops for small networks, which seldom overfit."""
ASPECTS = (3 / 4, 4 / 3)
"""Of a random crop: C. Szegedy et al., arXiv:1409.4842, section 6."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """How images are scaled and cropped to a square."""

    side: int
    """Of the square, in pixels."""
    resize: int | None = None
    """The shorter side of an image before it is cropped to its centre; None: it just covers the square."""
    interpolation: str = BILINEAR
    """bilinear, bicubic, lanczos, each over all pixels that one is made of, or nearest."""


@dataclass(frozen=True, eq=False)
class FilePool:
    """Image files, decoded when they are read: RGB, scaled and cropped to a square at their centre.

    Augmentation is ImageNet's, a random crop scaled to the square, or with ``shift`` that of small pictures, a square
    moved by up to so many pixels; both mirror every second image.
    """

    files: Sequence[Path]
    labels: Tensor
    image_size: int
    """Side of the square in pixels."""
    shift: int | None = None
    resize: int | None = None
    """See ``Fitting``, as of the next."""
    interpolation: str = BILINEAR

    @cached_property
    def names(self) -> Sequence[str]:
        """Each file's path below the folder that holds them all, so that a moved data set keeps its names."""
        paths = [str(file) for file in self.files]
        root = os.path.commonpath(map(os.path.dirname, paths)) if paths else ""
        return [os.path.relpath(path, root) for path in paths]

    def read(self, indices: Tensor) -> Tensor:
        """Return the images as uint8, N x 3 x H x W.

        Raises:
            DataError: a file cannot be decoded.
        """
        return self._decode([(self.files[i], None) for i in indices.tolist()])

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images as ``read`` does, each varied at random."""
        if self.shift is not None:
            return shifted_and_flipped(self.read(indices), self.shift, True, generator)
        # All draws come first, so that the threads' order cannot change them.
        draws = torch.rand(len(indices), 5, generator=generator).tolist()
        return self._decode([(self.files[i], draw) for i, draw in zip(indices.tolist(), draws, strict=True)])

    def _decode(self, wanted: Sequence[tuple[Path, Sequence[float] | None]]) -> Tensor:
        fitting = Fitting(self.image_size, self.resize, self.interpolation)

        def decode(one: tuple[Path, Sequence[float] | None]) -> Tensor:
            return _decode(*one, fitting)

        return torch.stack(in_threads(decode, wanted))


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Map over threads, as many as processors: Pillow decodes without holding Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        return list(executor.map(function, items))


def readable(path: Path | str) -> str:
    """Return a path that can be printed and stored, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode, upright, in RGB; ValueError where nothing but black or white would come of it."""
    return as_colours(image, 3)


def squared(image: Image.Image, fitting: Fitting) -> Tensor:
    """Scale an image of mode L or RGB and crop it to its centre; uint8, channels x side x side."""
    side = fitting.side
    return as_tensor(fit(image, side, side, resize=fitting.resize, interpolation=fitting.interpolation))


def as_tensor(image: Image.Image) -> Tensor:
    """Return an image of mode L or RGB as uint8, channels x height x width."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _decode(file: Path, draw: Sequence[float] | None, fitting: Fitting) -> Tensor:
    try:
        with opened(file, IMAGE_BYTES) as stream, Image.open(stream) as found:
            image = as_rgb(found)
    except BROKEN_IMAGE as error:
        raise DataError(
            f"{readable(file)} cannot be read any more ({error}), but could when the data was opened; put it back and "
            "resume with --resume"
        ) from error
    return squared(image, fitting) if draw is None else as_tensor(_random_crop(image, draw, fitting))


def _random_crop(image: Image.Image, draw: Sequence[float], fitting: Fitting) -> Image.Image:
    """Cut by five numbers in [0, 1): the crop's area, its aspect, its left, its top, and whether to mirror it."""
    share, shape, left, top, mirror = draw
    area = image.width * image.height * (CROP_AREA + (1 - CROP_AREA) * share)
    aspect = math.exp(math.log(ASPECTS[0]) + shape * math.log(ASPECTS[1] / ASPECTS[0]))
    width, height = min(image.width, math.sqrt(area * aspect)), min(image.height, math.sqrt(area / aspect))
    x, y = left * (image.width - width), top * (image.height - height)
    method = Image.Resampling[fitting.interpolation.upper()]
    cut = image.resize((fitting.side, fitting.side), method, box=(x, y, x + width, y + height))
    return ImageOps.mirror(cut) if mirror < 0.5 else cut
