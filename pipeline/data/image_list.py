"""Lists of image files by split, as a source; unreadable ones left out.

With both ``test`` and ``val``, both are what their names say; with one of them, that one is the test split, as with
ImageNet, whose test labels nobody has; with neither, a part of ``train`` is held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.decode_check import fault, unreadable
from pipeline.data.image_io import BILINEAR, FilePool, Fitting, readable
from pipeline.data.presets import Preset
from pipeline.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, SourceOptions
from pipeline.errors import DataError
from pipeline.events import Note

IMAGE_SIZE = 224
"""Side in pixels that torchvision's ImageNet networks are trained on."""


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Files and the class of each."""

    files: Sequence[Path] = ()
    labels: Sequence[int] = ()

    def without(self, broken: frozenset[Path]) -> LabelledFiles:
        """Return those that are not ``broken``."""
        kept = [i for i, file in enumerate(self.files) if file not in broken]
        return LabelledFiles([self.files[i] for i in kept], [self.labels[i] for i in kept])

    def and_also(self, other: LabelledFiles) -> LabelledFiles:
        """Return these and then the others."""
        return LabelledFiles([*self.files, *other.files], [*self.labels, *other.labels])


def source_of_files(
    name: str,
    classes: Sequence[str],
    splits: Mapping[str, LabelledFiles],
    options: SourceOptions,
    *,
    image_size: int = IMAGE_SIZE,
    shift: int | None = None,
) -> Source:
    """Make a source of files under ``train``, and perhaps ``val`` and ``test``.

    Args:
        name: the source's, and ``classes`` the names of its labels 0, 1, ….
        classes: as above.
        splits: what the user or the authors sorted.
        options: the user's.
        image_size: side in pixels where the options do not say.
        shift: of the augmentation, where the pictures are small; None: random crops.

    Raises:
        DataError: more files cannot be read than the user allows, or a size makes no sense.
    """
    preset = options.preset if image_size == IMAGE_SIZE else None  # smaller pictures are taken in their own size
    fitting = _fitting(options, preset, options.network_side or image_size)
    everything = [file for part in splits.values() for file in part.files]
    broken = [everything[i] for i in unreadable(everything, options.listen)]
    skipped = tuple(readable(file) for file in broken)
    options.skip(skipped, len(everything), (fault(broken[0]) or "") if broken else "")
    train, val, test = _settled({key: part.without(frozenset(broken)) for key, part in splits.items()})
    return Source(
        name=name,
        classes=tuple(classes),
        shape=(3, fitting.side, fitting.side),
        mean=preset.mean if preset else IMAGENET_MEAN,
        std=preset.std if preset else IMAGENET_STD,
        train=_pool(train.and_also(val), fitting, shift),
        test=_pool(test, fitting, shift) if test.files else None,
        val=_last(val, train) if val.files else None,
        skipped=skipped,
        fitting=fitting,
    )


def _fitting(options: SourceOptions, preset: Preset | None, usual: int) -> Fitting:
    """Return how the user wants images scaled; what is not said is as for the weights, or just covers the square."""
    crop = preset.crop if preset else usual
    side = crop if options.image_size is None else options.image_size
    if side < 1:
        raise DataError(f"image_size is {side}; give a side in pixels of at least 1")
    resize, interpolation = options.resize, options.interpolation
    if preset and side == preset.crop:
        if resize is None and interpolation is None:
            options.listen(Note(preset.sentence()))
        resize, interpolation = resize or preset.resize, interpolation or preset.interpolation
    if resize is not None and resize < side:
        raise DataError(f"images are scaled to {resize} and cut to {side}; give a resize of at least the crop")
    return Fitting(side, resize, interpolation or BILINEAR)


def _settled(splits: Mapping[str, LabelledFiles]) -> tuple[LabelledFiles, LabelledFiles, LabelledFiles]:
    train, val, test = (splits.get(key, LabelledFiles()) for key in ("train", "val", "test"))
    return (train, val, test) if test.files else (train, LabelledFiles(), val)


def _last(val: LabelledFiles, train: LabelledFiles) -> Tensor:
    return torch.arange(len(train.files), len(train.files) + len(val.files))


def _pool(part: LabelledFiles, fitting: Fitting, shift: int | None) -> FilePool:
    labels = torch.tensor(part.labels, dtype=torch.int64)
    return FilePool(part.files, labels, fitting.side, shift, fitting.resize, fitting.interpolation)
