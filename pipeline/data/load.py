"""From a data spec such as ``digits`` or ``cifar10:DIR`` to a data set with its four splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline import plugins
from pipeline.data import sources
from pipeline.data.dataset import DataSet, Split
from pipeline.data.pools import Pool, TargetPool
from pipeline.data.presets import Preset
from pipeline.data.source import Source, SourceOptions
from pipeline.data.splits import Splits, checksum, content, image_count
from pipeline.data.stratify import draw
from pipeline.errors import DataError, nearest
from pipeline.events import Listener, unheard
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.regular_file import home_expanded, is_folder

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
    network_side: int | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    preset: Preset | None = None,
    signals: bool | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    search_images: int | None = None,
    val_images: int | None = None,
    max_unreadable: float = 0,
    splits: Splits | None = None,
    task: Task | None = None,
    listen: Listener = unheard,
) -> DataSet:
    """Load ``NAME`` or ``NAME:ARGUMENT`` and split it, class by class, the same for one seed on every machine.

    A test split that the authors did not make is held out without regard to ``seed``: weights that were trained
    under one seed have then not seen the test images of another.

    Args:
        spec: a file's name in ``pipeline/data/sources``, and what that source wants after a colon.
        seed: draws the search and val splits.
        image_size: side in pixels, for sources that scale their images.
        network_side: the same where ``image_size`` is not given, for image files alone: what the network's file says.
        resize: their shorter side before they are cropped to ``image_size``; None: they just cover it.
        interpolation: bilinear, bicubic, lanczos, nearest; None: bilinear.
        preset: for image files, what of these three, mean and std is not given; a run's ``splits`` know it themselves.
        signals: a data set's tensors of two dimensions are signals, channels x samples; False: grey images, height x
            width; None: by their shape.
        mean: of each channel, of pixels in [0, 1], as the network was trained with; None: the source's own.
        std: the same.
        search_images: size of the search split; None: a tenth of the training images, at most 2000.
        val_images: size of the val split, where the authors have set none aside; None: the same.
        max_unreadable: images that may be skipped because they cannot be read; below 1, a share of all.
        splits: those of an earlier part of the run; nothing is drawn.
        task: what a network is to do with them; None: classification.
        listen: hears how far a long check has come, and what is skipped.

    Raises:
        DataError: unknown, missing, broken, too small to be split, or other than when ``splits`` were drawn.
    """
    task = task or classification()
    options = SourceOptions(
        collate=None if task.puts_into_classes else task.collate,
        image_size=image_size, network_side=network_side, resize=resize, interpolation=interpolation,
        preset=splits.preset if splits else preset, signals=signals, max_unreadable=max_unreadable, listen=listen,
    )  # fmt: skip
    source = _source(spec, options)
    _refuse_unscaled(source, options)
    source = _normalised_by(source, mean, std)
    if splits is None:
        _check_counts(source)
        splits = replace(_drawn(source, seed, search_images, val_images), preset=preset)
    else:
        splits.require_unchanged(source)

    def split(pool: Pool, indices: Tensor) -> Split:
        return Split(pool, indices, source.mean, source.std)

    return DataSet(
        name=source.name,
        classes=source.classes,
        shape=source.shape,
        mean=source.mean,
        std=source.std,
        train=split(source.train, splits.train),
        search=split(source.train, splits.search),
        val=split(source.train, splits.val),
        test=split(source.test or source.train, splits.test),
        splits=splits,
        skipped=source.skipped,
        fitting=source.fitting,
        more_shapes=source.more_shapes,
        task=task,
    )


def _source(spec: str, options: SourceOptions) -> Source:
    kind, _, argument = spec.partition(":")
    known = [name.replace("_", "-") for name in plugins.names(sources.__name__)]
    if kind not in known and not plugins.is_file(kind):
        folder = f"; for a folder of images write imagefolder:{spec}" if is_folder(home_expanded(spec)) else ""
        raise DataError(f"unknown data {kind!r}{nearest(kind, known)}{folder}; there are: {', '.join(known)}")
    source: Source = plugins.load(sources.__name__, kind).load(argument, options)
    return source


def _refuse_unscaled(source: Source, options: SourceOptions) -> None:
    """Refuse sizes for images that nobody scales, unless they are of that size anyway."""
    if source.fitting is not None:
        return
    wanted = {"image_size": options.image_size, "resize": options.resize, "interpolation": options.interpolation}
    if source.shape[1:] == (options.image_size, options.image_size):
        del wanted["image_size"]
    if given := [f"{name}={value}" for name, value in wanted.items() if value is not None]:
        kind, size = ("images", "x".join(map(str, source.shape[1:])))
        if len(source.shape) == 2:
            kind, size = "signals", f"{source.shape[1]} samples long"
        raise DataError(f"{source.name} {kind} are {size} and are not scaled; leave out {', '.join(given)}")


def _normalised_by(source: Source, mean: Sequence[float] | None, std: Sequence[float] | None) -> Source:
    channels = source.shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise DataError(f"{name} has {len(values)} numbers; {source.name} images have {channels} channels")
    return replace(
        source,
        mean=source.mean if mean is None else tuple(mean),
        std=source.std if std is None else tuple(std),
    )


def _check_counts(source: Source) -> None:
    """Refuse a class too small to give one image to each split that has to be drawn."""
    if isinstance(source.train, TargetPool):
        return  # what splits of so many examples may hold is checked when they are drawn
    parts = ["train", "search"] + ([] if source.val is not None else ["val"]) + ([] if source.test else ["test"])
    counts = torch.bincount(source.train.labels[_to_train_on(source)], minlength=len(source.classes)).tolist()
    for name, count in zip(source.classes, counts, strict=True):
        if count < len(parts):
            raise DataError(
                f"class {name!r} of {source.name} has {count} training images; at least {len(parts)} are needed, "
                f"one each for {', '.join(parts)}: add some or leave the class out"
            )


def _to_train_on(source: Source) -> Tensor:
    """Return the indices of the training pool's images that nobody has set aside."""
    mine = torch.ones(len(source.train.labels), dtype=torch.bool)
    if source.val is not None:
        mine[source.val] = False
    return mine.nonzero()[:, 0]


def _drawn(source: Source, seed: int, search_images: int | None, val_images: int | None) -> Splits:
    train, test = _train_and_test(source)
    usual = min(SPLIT_IMAGES, max(1, round(SPLIT_SHARE * len(train))))
    wanted = [usual if images is None else images for images in (search_images, val_images)]
    if source.val is not None:
        (search,), train = _parts(source.train.labels, train, seed, wanted[:1])
        val = source.val[_shuffled(len(source.val))]
    else:
        (search, val), train = _parts(source.train.labels, train, seed, wanted)
    return Splits(train=train, search=search, val=val, test=test, images=image_count(source),
                  checksum=checksum(source), content=content(source))  # fmt: skip


def _train_and_test(source: Source) -> tuple[Tensor, Tensor]:
    """Return the training indices and the test indices, each into its own pool."""
    train = _to_train_on(source)
    if source.test is None:
        test, rest = draw(source.train.labels[train], round(TEST_SHARE * len(train)), seed=_TEST_SEED, leave=3)
        return train[rest], train[test]
    return train, _shuffled(len(source.test.labels))


def _shuffled(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(_TEST_SEED))


def _parts(labels: Tensor, train: Tensor, seed: int, wanted: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Return parts of the wanted sizes and what is left to train on, as indices into the pool."""
    if min(wanted) < 1 or sum(wanted) > len(train) // 2:
        raise DataError(
            f"search and val splits of {' and '.join(map(str, wanted))} images cannot be taken from {len(train)} "
            f"training images; give each at least 1 and both together at most {len(train) // 2}"
        )
    parts = []
    for turn, images in enumerate(wanted):
        part, rest = draw(labels[train], images, seed=seed + turn, leave=len(wanted) - turn)
        parts.append(train[part])
        train = train[rest]
    return parts, train
