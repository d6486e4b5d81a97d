"""Items of a torch Dataset: each (image, label) read and checked once, cached where all fit into memory.

An image is a PIL image or a tensor, channels x height x width, and kept as bytes. A signal is a tensor, channels x
samples, and kept as the numbers that it holds. A tensor of two dimensions may as well be a grey image, height x width:
unless that is asked for, it is taken for a signal where it has one row, or at least four times as many columns as rows.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from deploy.runtime import as_colours
from pipeline.data.image_io import BILINEAR, BROKEN_IMAGE, Fitting, as_tensor, squared
from pipeline.data.pools import MemoryPool, Pool, shifted_and_flipped
from pipeline.data.source import SourceOptions
from pipeline.errors import DataError, first_line
from pipeline.events import Stage, StageProgress
from pipeline.import_path import said

MEMORY_BYTES = 2 * 2**30
"""Data sets up to this size are kept in memory."""
EVERY = 1000
"""Items between two signs of progress."""
READ_TWICE = 8
"""Items that are compared with a second reading, to find random transforms."""
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
"""And those that begin with ``I;16``."""
LONG = 4
"""A tensor of two dimensions with so many times as many columns as rows is taken for a signal."""


class UnreadableError(DataError):
    """A PIL image that cannot be decoded, or would be all black or white; as many as the user allows are skipped."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an item is made into."""

    fitting: Fitting | None
    """Of PIL images; None: they keep their size."""
    signals: bool | None
    """Whether tensors of two dimensions are signals, not grey images; None: by their shape."""


@dataclass(frozen=True, eq=False)
class Items:
    """What could be read of a data set."""

    dataset: Any
    positions: Sequence[int]
    """Of the items that could be read; the others are ``skipped``."""
    labels: Sequence[int]
    """As the data set gives them."""
    shape: tuple[int, ...]
    """Channels, height, width; of signals channels, samples."""
    images: Tensor | None
    """uint8, N x C x H x W, or float32, N x C x samples; None where they do not fit into memory."""
    kind: Kind
    skipped: Sequence[str]
    fitted: bool
    """Whether images were scaled as the user asked."""

    def pool(self, labels: Tensor, shift: int, flip: bool) -> Pool:
        """Return the images under the labels 0 … n-1."""
        if self.images is not None:
            return MemoryPool(self.images, labels, shift=shift, flip=flip)
        return ItemPool(self, labels, shift, flip)


@dataclass(frozen=True, eq=False)
class ItemPool:
    """Items that the data set gives anew whenever they are read."""

    items: Items
    labels: Tensor
    shift: int
    flip: bool
    names: Sequence[str] = ()

    def read(self, indices: Tensor) -> Tensor:
        """Return the images as uint8, N x C x H x W, or signals as float32, N x C x samples.

        Raises:
            DataError: the data set raises, or gives another kind of image than at first.
        """
        return torch.stack([self._one(self.items.positions[i]) for i in indices.tolist()])

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, shifted and mirrored at random."""
        return shifted_and_flipped(self.read(indices), self.shift, self.flip, generator)

    def _one(self, position: int) -> Tensor:
        try:
            image, _ = self.items.dataset[position]
        except Exception as error:  # a user's data set may raise anything
            raise DataError(
                f"item {position} cannot be read any more ({said(error)}), but could when the data was opened"
            ) from error
        return _fitting(as_values(image, self.items.kind), self.items.shape, position)


def read_items(dataset: Any, part: str, options: SourceOptions) -> Items:
    """Read every item once.

    Raises:
        DataError: no item can be read, one is no (image, label), or its image is unlike the first.
    """
    count = len(dataset)
    if count > EVERY:
        options.listen(Stage(f"Read {count:,} {part} items", count))
    positions: list[int] = []
    labels: list[int] = []
    skipped: list[str] = []
    images: Tensor | None = None
    shape: tuple[int, ...] | None = None
    kind = Kind(_fitting_of(options), options.signals)
    fitted = False
    for position in range(count):
        try:
            item = dataset[position]
        except Exception as error:  # a user's data set may raise anything
            skipped.append(f"{part} item {position}: {said(error)}")
            continue
        try:
            image, label = _image_and_label(item, position, kind)
        except UnreadableError as error:
            skipped.append(f"{part} item {position}: {error}")
            continue
        if shape is None:
            shape, fitted = tuple(image.shape), kind.fitting is not None and isinstance(item[0], Image.Image)
            size = count * image.numel() * image.element_size()
            images = torch.empty(count, *shape, dtype=image.dtype) if size <= MEMORY_BYTES else None
        image = _fitting(image, shape, position)
        if len(positions) < READ_TWICE:
            _refuse_random(dataset, position, image, kind)
        if images is not None:
            images[len(positions)] = image
        positions.append(position)
        labels.append(label)
        if count > EVERY and not position % EVERY:
            options.listen(StageProgress(position, part))
    if shape is None:
        raise DataError(f"none of the {count} {part} items can be read ({skipped[0]}); fix the data set")
    kept = None if images is None else images[: len(positions)]
    return Items(dataset, positions, labels, shape, kept, kind, skipped, fitted)


def as_values(image: object, kind: Kind) -> Tensor:
    """Return an image as uint8, channels x height x width, or a signal as float32, channels x samples.

    Raises:
        DataError: it is of no known kind, or its values are no pixels.
    """
    if isinstance(image, Image.Image):
        return _pixels(image, kind.fitting)
    if not isinstance(image, Tensor):
        raise DataError(
            f"an image is a {type(image).__name__}; expected a PIL image or a tensor (uint8, or float in [0, 1])"
        )
    if _is_signal(image, kind.signals):
        return _signal(image)
    return _bytes(image)


def _pixels(image: Image.Image, fitting: Fitting | None) -> Tensor:
    grey = image.mode in GREY_MODES or image.mode.startswith("I;16")
    try:
        picture = as_colours(image, 1 if grey else 3)
    except BROKEN_IMAGE as error:
        image.close()  # Pillow leaves the file of a broken one open
        raise UnreadableError(first_line(error)) from error
    return as_tensor(picture) if fitting is None else squared(picture, fitting)


def _is_signal(tensor: Tensor, asked: bool | None) -> bool:
    if tensor.dim() != 2 or asked is not None:
        return tensor.dim() == 1 or (tensor.dim() == 2 and bool(asked))
    rows, columns = tensor.shape
    return rows == 1 or columns >= LONG * rows


def _signal(tensor: Tensor) -> Tensor:
    values = tensor[None] if tensor.dim() == 1 else tensor
    if not tensor.is_complex() and tensor.numel() and (values := values.to(torch.float32)).isfinite().all():
        return values
    found = f"{tensor.dtype} {tuple(tensor.shape)}"
    raise DataError(f"a signal ({found}) is empty, complex, or holds NaN or infinite values; expected numbers")


def _bytes(image: Tensor) -> Tensor:
    pixels = image[None] if image.dim() == 2 else image
    if pixels.dim() != 3 or not pixels.numel() or (pixels.shape[-1] in (1, 3, 4) and pixels.shape[0] > 4):
        raise DataError(f"an image is a tensor of shape {tuple(image.shape)}; expected channels x height x width")
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise DataError(f"an image is a tensor of {image.dtype}; expected uint8, or float in [0, 1]")
    low, high = (x.item() for x in pixels.aminmax())
    if not 0 <= low <= high <= 1:
        raise DataError(
            f"an image's values reach from {low:.3g} to {high:.3g}; expected float in [0, 1], as ToTensor gives: leave "
            "Normalize out, the pipeline normalises by itself"
        )
    return (pixels * 255).round().to(torch.uint8)


def _fitting_of(options: SourceOptions) -> Fitting | None:
    size = options.image_size
    return None if size is None else Fitting(size, options.resize, options.interpolation or BILINEAR)


def _image_and_label(item: object, position: int, kind: Kind) -> tuple[Tensor, int]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        found = f"{len(item)} things" if isinstance(item, (tuple, list)) else f"a {type(item).__name__}"
        raise DataError(f"item {position} is {found}; expected (image, label)")
    image, label = item
    try:
        return as_values(image, kind), operator.index(label)
    except UnreadableError:
        raise
    except TypeError as error:
        raise DataError(f"item {position}: the label is {label!r}; expected a whole number") from error
    except DataError as error:
        raise DataError(f"item {position}: {error}") from error


def _fitting(image: Tensor, shape: tuple[int, ...], position: int) -> Tensor:
    """Return an image in the first one's shape: grey is repeated where the first is coloured."""
    if image.dim() == len(shape) == 3 and image.shape[0] == 1 and shape[0] == 3:
        image = image.expand(3, -1, -1)
    if tuple(image.shape) != shape:
        sizes = " and ".join("x".join(map(str, size)) for size in (tuple(image.shape), shape))
        if image.dim() != 3:
            raise DataError(
                f"item {position} and the first one are {sizes} (channels x samples); give them one length and number "
                "of channels in the data set"
            )
        raise DataError(
            f"item {position} and the first one are {sizes} (channels x height x width); give them one size and number "
            "of channels in the data set, or PIL images and image_size in run.yaml"
        )
    return image


def _refuse_random(dataset: Any, position: int, image: Tensor, kind: Kind) -> None:
    again, _ = _image_and_label(dataset[position], position, kind)
    if not torch.equal(image, _fitting(again, tuple(image.shape), position)):
        raise DataError(
            f"item {position} is another image at the second reading; leave random transforms out, the pipeline varies "
            "images by itself and only for training"
        )
