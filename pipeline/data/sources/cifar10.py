"""CIFAR-10: 50,000 + 10,000 colour pictures, 32x32, in ten classes, from a folder in one of three layouts.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The layouts are the authors'
``cifar-10-batches-py`` and ``cifar-10-batches-bin`` (https://www.cs.toronto.edu/~kriz/cifar.html), and ``.npz`` files.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.data.cifar_format import Arrays, pool, read_records
from pipeline.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, SourceOptions, given_folder
from pipeline.errors import DataError
from pipeline.regular_file import LIST_BYTES, opened

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
USAGE = "cifar10:DIR"
LAYOUTS = "cifar-10-batches-py/, cifar-10-batches-bin/, or train_*.npz and test.npz with x (n, 32, 32, 3) and y (n)"


_BROKEN = (
    OSError, EOFError, TypeError, ValueError, AttributeError, KeyError, MemoryError, RuntimeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on archives that are damaged, or whose headers promise what no memory holds."""


def load(argument: str, options: SourceOptions) -> Source:  # noqa: ARG001 - every source takes both
    """Return the pictures; augmentation is the usual one: pad by 4, crop, mirror.

    Raises:
        DataError: the folder is missing, in no known layout, or a file in it is broken.
    """
    train, test = _read(given_folder(argument, USAGE))
    return Source(
        name="cifar10",
        classes=CLASSES,
        shape=(3, 32, 32),
        mean=IMAGENET_MEAN,  # not CIFAR's own: what the published CIFAR ResNets were trained with
        std=IMAGENET_STD,
        train=pool(*train, len(CLASSES)),
        test=pool(*test, len(CLASSES)),
    )


def _read(folder: Path) -> tuple[Arrays, Arrays]:
    """Read the training and the test images in whichever layout the folder, or one inside it, has."""
    if (folder / "test.npz").is_file():
        return _read_npz(sorted(folder.glob("train_*.npz")), folder), _read_npz([folder / "test.npz"], folder)
    for inner in (folder, folder / "cifar-10-batches-bin"):
        if (inner / "test_batch.bin").is_file():
            train = sorted(inner.glob("data_batch_*.bin"))
            return _read_bin(train, inner), _read_bin([inner / "test_batch.bin"], inner)
    for parent in (folder, folder.parent):
        if (parent / "cifar-10-batches-py" / "test_batch").is_file():
            return _read_py(parent, train=True), _read_py(parent, train=False)
    raise DataError(f"{folder} holds no CIFAR-10; expected {LAYOUTS}")


def _read_npz(files: Sequence[Path], folder: Path) -> Arrays:
    return _joined([_read_one_npz(file) for file in files], folder)


def _read_one_npz(file: Path) -> Arrays:
    try:
        with opened(file, LIST_BYTES) as stream, np.load(stream, allow_pickle=False) as arrays:
            _refuse_bomb(arrays)
            missing = {"x", "y"} - set(arrays.files)
            if missing:
                raise DataError(f"{file} holds the keys {sorted(arrays.files)}; expected x (images) and y (labels)")
            images, labels = arrays["x"], arrays["y"]
    except _BROKEN as error:
        raise DataError(f"{file} cannot be read as .npz ({error}); fetch it again") from error
    if images.dtype != np.uint8 or images.shape != (labels.size, 32, 32, 3):
        raise DataError(
            f"{file}: x is {images.dtype} {images.shape} with {labels.size} labels; "
            "expected uint8 (n, 32, 32, 3) with n labels"
        )
    return images, labels


def _refuse_bomb(arrays: np.lib.npyio.NpzFile) -> None:
    """Raise ValueError where an archive holds more than a part of CIFAR-10 ever has."""
    assert arrays.zip is not None  # it has just been opened
    size = sum(part.file_size for part in arrays.zip.infolist())
    if size > LIST_BYTES:
        raise ValueError(f"unpacked, it has {size / 1e9:.3g} GB")


def _read_bin(files: Sequence[Path], folder: Path) -> Arrays:
    return _joined([read_records(file, label_bytes=1) for file in files], folder)


def _read_py(parent: Path, *, train: bool) -> Arrays:
    """Let torchvision read the pickles: it opens them only where their MD5 is the authors'."""
    from pipeline.torchvision_compat import torchvision  # seconds to import, and only this layout needs it

    try:
        read = torchvision.datasets.CIFAR10(parent, train=train, download=False)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{parent / 'cifar-10-batches-py'}: {error}; unpack cifar-10-python.tar.gz again") from error
    return read.data, np.asarray(read.targets)


def _joined(parts: Sequence[Arrays], folder: Path) -> Arrays:
    if not parts:
        raise DataError(f"{folder} holds test but no training images; expected {LAYOUTS}")
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
