"""A data set written to a folder in a layout that ``--data`` reads: CIFAR-10's arrays, or a folder of PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from deploy.folder import explained, new_folder
from pipeline.data.dataset import DataSet, Split
from pipeline.data.pools import TargetPool
from pipeline.errors import DataError
from pipeline.events import Listener, Stage, StageProgress, unheard

_CIFAR10 = "cifar10"
_BATCH = 256
_KIND = "data set"


def write_data(data: DataSet, output: Path, *, listen: Listener = unheard) -> str:
    """Write a data set's images, not normalised, and return what ``--data`` reads them by.

    CIFAR-10 becomes ``train_0.npz`` and ``test.npz``, as ``cifar10:DIR`` has them; all else ``DIR/train/CLASS/*.png``
    and ``DIR/test/CLASS/*.png``, for ``imagefolder:DIR``. What is no test image is in train; a run draws its search and
    validation splits of these anew.

    Args:
        data: of images and classes.
        output: a folder that is new or empty.
        listen: hears how far it has come.

    Raises:
        DataError: it is of signals, or of another task than classes.
        OutputError: the folder is not empty or cannot be written.
    """
    if data.has_signals or isinstance(data.train.pool, TargetPool):
        raise DataError(f"{data.name} is not of images in classes, and that alone can be written")
    splits = {"train": data.everything_but_test(), "test": data.test}
    listen(Stage(f"Write {data.name}", sum(map(len, splits.values()))))
    write = _write_arrays if data.name == _CIFAR10 else _write_files
    with new_folder(output, _KIND) as folder, explained(output, _KIND):
        done = 0
        for name, split in splits.items():
            for count in write(folder, name, split, data.classes):
                done += count
                listen(StageProgress(done))
    return f"{_CIFAR10 if write is _write_arrays else 'imagefolder'}:{output}"


def _batches(split: Split) -> Iterator[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
    """Yield numbers, images (N x H x W x C, uint8) and labels, in the order of the pool."""
    for indices in torch.split(split.indices.sort().values, _BATCH):
        images = split.pool.read(indices).permute(0, 2, 3, 1).contiguous().numpy()
        yield indices, images, split.pool.labels[indices].numpy()


def _write_arrays(folder: Path, name: str, split: Split, classes: tuple[str, ...]) -> Iterator[int]:  # noqa: ARG001
    images, labels = [], []
    for _, some, their in _batches(split):
        images.append(some)
        labels.append(their)
        yield len(some)
    file = folder / ("test.npz" if name == "test" else "train_0.npz")
    np.savez_compressed(file, x=np.concatenate(images), y=np.concatenate(labels))


def _write_files(folder: Path, name: str, split: Split, classes: tuple[str, ...]) -> Iterator[int]:
    folders = [folder / name / one for one in _folder_names(classes)]
    for one in folders:
        one.mkdir(parents=True)
    for indices, images, labels in _batches(split):
        for number, image, label in zip(indices.tolist(), images, labels.tolist(), strict=True):
            pixels = image[:, :, 0] if image.shape[2] == 1 else image
            PIL.Image.fromarray(pixels).save(folders[label] / f"{number:07d}.png")
        yield len(images)


def _folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a folder's name for each class; numbered where their order is not that of their names.

    >>> _folder_names(("cat", "dog")), _folder_names(("dog", "a/b"))
    (['cat', 'dog'], ['0-dog', '1-a_b'])
    """
    names = ["".join(sign if sign.isalnum() or sign in " -_." else "_" for sign in name) for name in classes]
    if names == sorted(set(names)) and not any(name.startswith(".") for name in names):
        return names
    width = len(str(len(names) - 1))
    return [f"{number:0{width}d}-{name}" for number, name in enumerate(names)]
