"""CIFAR-100: 50,000 + 10,000 colour pictures, 32x32, in a hundred classes, from a folder in the authors' layouts.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The layouts are the authors'
``cifar-100-python`` and ``cifar-100-binary`` (https://www.cs.toronto.edu/~kriz/cifar.html); the fine labels are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.cifar_format import Arrays, pool, read_records
from pipeline.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, SourceOptions, given_folder
from pipeline.errors import DataError
from pipeline.regular_file import SETTINGS_BYTES, read_bytes

USAGE = "cifar100:DIR"
LAYOUTS = "cifar-100-python/, or cifar-100-binary/ with train.bin, test.bin and fine_label_names.txt"
CLASSES = 100


def load(argument: str, options: SourceOptions) -> Source:  # noqa: ARG001 - every source takes both
    """Return the pictures; augmentation is the usual one: pad by 4, crop, mirror.

    Raises:
        DataError: the folder is missing, in no known layout, or a file in it is broken.
    """
    train, test, classes = _read(given_folder(argument, USAGE))
    return Source(
        name="cifar100",
        classes=classes,
        shape=(3, 32, 32),
        mean=IMAGENET_MEAN,  # as for CIFAR-10
        std=IMAGENET_STD,
        train=pool(*train, CLASSES),
        test=pool(*test, CLASSES),
    )


def _read(folder: Path) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    for inner in (folder, folder / "cifar-100-binary"):
        if (inner / "test.bin").is_file():
            train, test = (read_records(inner / f"{part}.bin", label_bytes=2) for part in ("train", "test"))
            return train, test, _names(inner / "fine_label_names.txt")
    for parent in (folder, folder.parent):
        if (parent / "cifar-100-python" / "test").is_file():
            return _read_pickles(parent)
    raise DataError(f"{folder} holds no CIFAR-100; expected {LAYOUTS}")


def _names(file: Path) -> tuple[str, ...]:
    try:
        names = tuple(read_bytes(file, SETTINGS_BYTES).decode("utf-8", "replace").split())
    except OSError:
        names = ()
    if len(names) != CLASSES:
        raise DataError(f"{file} holds {len(names)} names; expected {CLASSES}: unpack cifar-100-binary.tar.gz again")
    return names


def _read_pickles(parent: Path) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    """Let torchvision read the pickles: it opens them only where their MD5 is the authors'."""
    from pipeline.torchvision_compat import torchvision  # seconds to import, and only this layout needs it

    try:
        train, test = (torchvision.datasets.CIFAR100(parent, train=train, download=False) for train in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{parent / 'cifar-100-python'}: {error}; unpack cifar-100-python.tar.gz again") from error
    return (train.data, np.asarray(train.targets)), (test.data, np.asarray(test.targets)), tuple(train.classes)
