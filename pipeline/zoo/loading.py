"""From a data spec such as ``digits`` or ``cifar10:DIR`` to a data set with its four splits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipeline import plugins
from pipeline.errors import DataError, nearest
from pipeline.zoo import data
from pipeline.zoo.dataset import DataSet, Split
from pipeline.zoo.pools import Pool
from pipeline.zoo.source import Source, SourceOptions
from pipeline.zoo.stratify import draw

TEST_SHARE = 0.2
"""Held out for the test where a source has no test split of its own."""
SPLIT_SHARE = 0.1
SPLIT_IMAGES = 2000
"""The search and val splits take this share of the training images each, but no more than so many."""
_TEST_SEED = 0


def load_data(
    spec: str,
    *,
    seed: int = 0,
    image_size: int | None = None,
    search_images: int | None = None,
    val_images: int | None = None,
) -> DataSet:
    """Load ``NAME`` or ``NAME:ARGUMENT`` and split it, class by class, the same for one seed on every machine.

    A test split that the authors did not make is held out without regard to ``seed``: weights that were trained
    under one seed have then not seen the test images of another.

    Args:
        spec: a file's name in ``pipeline/zoo/data``, and what that source wants after a colon.
        seed: draws the search and val splits.
        image_size: side in pixels, for sources that scale their images.
        search_images: size of the search split; None: a tenth of the training images, at most 2000.
        val_images: size of the val split; None: the same.

    Raises:
        DataError: unknown, missing, broken, or too small to be split.
    """
    source = _source(spec, SourceOptions(image_size=image_size))
    if image_size is not None and source.shape[1:] != (image_size, image_size):
        height, width = source.shape[1:]
        raise DataError(
            f"{source.name} images are {height}x{width} and are not scaled; leave out image_size={image_size}"
        )
    _check_counts(source)
    train, test = _train_and_test(source)
    search, val, train = _three_parts(source.train.labels, train, seed, search_images, val_images)

    def split(pool: Pool, indices: Tensor) -> Split:
        return Split(pool, indices, source.mean, source.std)

    return DataSet(
        name=source.name,
        classes=source.classes,
        shape=source.shape,
        mean=source.mean,
        std=source.std,
        train=split(source.train, train),
        search=split(source.train, search),
        val=split(source.train, val),
        test=split(source.test or source.train, test),
    )


def _source(spec: str, options: SourceOptions) -> Source:
    kind, _, argument = spec.partition(":")
    known = [name.replace("_", "-") for name in plugins.names(data.__name__)]
    if kind not in known:
        folder = f"; for a folder of images write imagefolder:{spec}" if Path(spec).expanduser().is_dir() else ""
        raise DataError(f"unknown data {kind!r}{nearest(kind, known)}{folder}; there are: {', '.join(known)}")
    source: Source = plugins.load(data.__name__, kind).load(argument, options)
    return source


def _check_counts(source: Source) -> None:
    """Refuse a class too small to give one image to each split."""
    parts = ["train", "search", "val"] + ([] if source.test else ["test"])
    counts = torch.bincount(source.train.labels, minlength=len(source.classes)).tolist()
    for name, count in zip(source.classes, counts, strict=True):
        if count < len(parts):
            raise DataError(
                f"class {name!r} of {source.name} has {count} training images; at least {len(parts)} are needed, "
                f"one each for {', '.join(parts)}: add some or leave the class out"
            )


def _train_and_test(source: Source) -> tuple[Tensor, Tensor]:
    """Return the training indices and the test indices, each into its own pool."""
    labels = source.train.labels
    if source.test is None:
        test, train = draw(labels, round(TEST_SHARE * len(labels)), seed=_TEST_SEED, leave=3)
        return train, test
    shuffled = torch.randperm(len(source.test.labels), generator=torch.Generator().manual_seed(_TEST_SEED))
    return torch.arange(len(labels)), shuffled


def _three_parts(
    labels: Tensor, train: Tensor, seed: int, search_images: int | None, val_images: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return search, val and what is left to train on, as indices into the pool."""
    usual = min(SPLIT_IMAGES, max(1, round(SPLIT_SHARE * len(train))))
    wanted = [usual if images is None else images for images in (search_images, val_images)]
    if min(wanted) < 1 or sum(wanted) > len(train) // 2:
        raise DataError(
            f"search and val splits of {wanted[0]} and {wanted[1]} images cannot be taken from {len(train)} training "
            f"images; give each at least 1 and both together at most {len(train) // 2}"
        )
    parts = []
    for turn, images in enumerate(wanted):
        part, rest = draw(labels[train], images, seed=seed + turn, leave=2 - turn)
        parts.append(train[part])
        train = train[rest]
    return parts[0], parts[1], train
