"""Your own ``torch.utils.data.Dataset``: ``dataset:package.module:FACTORY`` or ``dataset:file.py:FACTORY``.

FACTORY is called without arguments and returns a map-style data set of (image, label), or two of them, (train, test).
It gives its images as they are: no random transforms and no Normalize, which are the pipeline's business. Classes are
called as its ``classes`` say; without them they are numbered. Augmentation moves the images by ``shift`` pixels (an
eighth of the side, where the data set has no such attribute) and mirrors them where ``flip`` is true.

Instead of an image it may give a signal, a tensor of channels x samples, of any finite numbers; networks of Conv1d
take it as it is, normalised by channel. Augmentation moves and mirrors signals only where the data set says so.

Where the task is no classification, an item is (inputs, target): see :mod:`pipeline.data.examples`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from pipeline import structures
from pipeline.data.examples import read_examples
from pipeline.data.pools import Pool
from pipeline.data.source import IMAGENET_MEAN, IMAGENET_STD, NAMED, Source, SourceOptions, listed
from pipeline.data.torch_items import Items, read_items
from pipeline.errors import DataError
from pipeline.events import Note
from pipeline.import_path import called, imported

USAGE = "dataset:package.module:FACTORY or dataset:file.py:FACTORY"
WANTED = "a map-style data set of (image, label), with __len__ and __getitem__, or two of them, (train, test)"
MEASURED_IMAGES = 512
"""How many images give mean and deviation where nobody states them."""


def load(argument: str, options: SourceOptions) -> Source:
    """Read every image once, which finds out what cannot be read and what does not fit the others.

    Raises:
        DataError: it cannot be imported, is no such data set, raises, or holds what cannot be used.
    """
    if not argument.rpartition(":")[0]:
        raise DataError(f"dataset:{argument} does not say what gives the data set; write {USAGE}")
    with imported(argument, DataError, "data set") as named:
        made = _parts(named, argument)
        if options.collate is not None:
            return _of_examples(made, options)
        read = {part: read_items(dataset, part, options) for part, dataset in made.items()}
    skipped = [name for items in read.values() for name in items.skipped]
    options.skip(skipped, sum(len(dataset) for dataset in made.values()))
    return _source(made["train"], read["train"], read.get("test"), skipped, options)


def _of_examples(made: Mapping[str, Any], options: SourceOptions) -> Source:
    """Return a source whose targets are no classes; ``classes`` of the data set name what its outputs mean, if it has.

    Pixels are normalised as the first input's channels say, all else is taken as it is.
    """
    read = {part: read_examples(dataset, part, options) for part, dataset in made.items()}
    options.skip([name for _, names in read.values() for name in names], sum(len(one) for one in made.values()))
    train, test = read["train"][0], read["test"][0] if "test" in read else None
    if test is not None and test.shapes != train.shapes:
        raise DataError(f"the test inputs are {test.shapes}, those for training {train.shapes}; make them alike")
    first, *more = train.shapes
    inputs, _ = train.batch(torch.arange(1))
    pixels = [part.shape[1] for part in structures.arguments(inputs) if part.dtype == torch.uint8]
    if pixels and (structures.arguments(inputs)[0].dtype != torch.uint8 or len(set(pixels)) > 1):
        raise DataError(
            "images (uint8) that are normalised come first among the inputs and have one number of channels; give "
            "others as float tensors, as the network takes them"
        )
    mean, std = _statistics(train, first) if pixels else ((0.0,) * first[0], (1.0,) * first[0])
    return Source(
        name="dataset", classes=tuple(map(str, getattr(made["train"], "classes", ()))), shape=first,
        more_shapes=tuple(more), mean=mean, std=std, train=train, test=test,
        skipped=tuple(name for _, names in read.values() for name in names),
    )  # fmt: skip


def _parts(named: Any, spec: str) -> dict[str, Any]:
    made = called(named, spec, DataError, {}) if isinstance(named, type) or not _is_map_style(named) else named
    parts = made if isinstance(made, tuple) and len(made) == 2 else (made,)
    for part in parts:
        if isinstance(part, IterableDataset) or not _is_map_style(part):
            raise DataError(f"{spec} gave {_described(part)}; it has to give {WANTED}")
        if not len(part):
            raise DataError(f"{spec} gave a {type(part).__name__} without any images; it has to give {WANTED}")
    return dict(zip(("train", "test"), parts, strict=False))


def _is_map_style(made: object) -> bool:
    return hasattr(made, "__getitem__") and hasattr(made, "__len__")


def _described(made: object) -> str:
    kind = type(made).__name__
    if isinstance(made, torch.utils.data.DataLoader):
        return "a DataLoader; leave it out and return its data set"
    if isinstance(made, IterableDataset) or hasattr(made, "__iter__"):
        return f"a {kind}, which can only be read from front to back and cannot be split"
    return f"a {kind}"


def _source(dataset: Any, train: Items, test: Items | None, skipped: Sequence[str], options: SourceOptions) -> Source:
    if test is not None and test.shape != train.shape:
        raise DataError(f"the test images are {test.shape}, those for training {train.shape}; make them alike")
    values, classes = _classes(dataset, train, options)
    usual = min(train.shape[1:]) // 8 if len(train.shape) == 3 else 0
    shift, flip = int(getattr(dataset, "shift", usual)), bool(getattr(dataset, "flip", False))
    pools = [
        None if items is None else items.pool(_numbered(items.labels, values, part), shift, flip)
        for part, items in (("train", train), ("test", test))
    ]
    assert pools[0] is not None  # what a data set has at least
    mean, std = _statistics(pools[0], train.shape)
    return Source(
        name="dataset", classes=classes, shape=train.shape, mean=mean, std=std, train=pools[0], test=pools[1],
        skipped=tuple(skipped), fitting=train.kind.fitting if train.fitted else None,
    )  # fmt: skip


def _classes(dataset: Any, train: Items, options: SourceOptions) -> tuple[list[int], tuple[str, ...]]:
    """Return the labels that the data set uses, in order, and what they are called."""
    found = sorted(set(train.labels))
    named = getattr(dataset, "classes", None)
    if named is not None:
        names = tuple(map(str, named))
        if found and not 0 <= found[0] <= found[-1] < len(names):
            raise DataError(
                f"the data set names {len(names)} classes, but its labels reach from {found[0]} to {found[-1]}; "
                f"expected 0 to {len(names) - 1}"
            )
        return list(range(len(names))), names
    if len(found) < 2:
        raise DataError(f"all images have the label {listed(found, 1)}; at least 2 classes are needed")
    if found != list(range(len(found))):
        options.listen(Note(f"labels {listed(found, NAMED)} are counted as 0 to {len(found) - 1}, in this order"))
    return found, tuple(map(str, found))


def _numbered(labels: Sequence[int], values: Sequence[int], part: str) -> Tensor:
    number = {value: label for label, value in enumerate(values)}
    unknown = sorted(set(labels) - set(number))
    if unknown:
        raise DataError(f"{part} images have labels that no training image has ({listed(unknown, NAMED)})")
    return torch.tensor([number[value] for value in labels], dtype=torch.int64)


def _statistics(pool: Pool, shape: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what colour networks are trained with, or the images' own mean and deviation, by channel."""
    if len(shape) == 3 and shape[0] == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    count = len(pool.labels)
    images = pool.read(torch.arange(0, count, max(1, count // MEASURED_IMAGES)))
    if len(shape) == 2:
        std, mean = torch.std_mean(images.double(), dim=(0, 2))
        return tuple(mean.tolist()), tuple(s or 1.0 for s in std.tolist())
    std, mean = torch.std_mean(images.float() / 255, dim=(0, 2, 3))
    return tuple(mean.tolist()), tuple(std.clamp_min(1 / 255).tolist())
