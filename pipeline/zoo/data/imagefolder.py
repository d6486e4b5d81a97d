"""A folder of image files: DIR/CLASS/*.jpg, or DIR/{train,val,test}/CLASS/*.jpg; decoded when they are read.

With both ``test`` and ``val`` beside ``train``, the images of ``val`` join those of ``train``, from which the pipeline
draws its own splits; with one of them, that one is the test split; with neither, a part of ``train`` is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from pipeline.errors import DataError
from pipeline.zoo.pools import BROKEN_IMAGE, FilePool, in_threads
from pipeline.zoo.source import IMAGENET_MEAN, IMAGENET_STD, Source, SourceOptions, given_folder

USAGE = "imagefolder:DIR with a sub-folder of images for each class"
IMAGE_SIZE = 224
"""Side in pixels that torchvision's ImageNet networks are trained on."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
NAMED_BROKEN = 3
"""How many broken images an error names."""


def load(argument: str, options: SourceOptions) -> Source:
    """Return the images; each file's header is checked now, its pixels are decoded when they are read.

    Raises:
        DataError: no folder, fewer than two classes, an empty class, broken images, or halves whose classes differ.
    """
    size = IMAGE_SIZE if options.image_size is None else options.image_size
    if size < 1:
        raise DataError(f"image_size is {size}; give a side in pixels of at least 1")
    root = given_folder(argument, USAGE)
    train, test = _halves(root)
    classes = _classes(train[0])
    return Source(
        name="imagefolder",
        classes=classes,
        shape=(3, size, size),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        train=_pool(train, classes, size),
        test=_pool(test, classes, size) if test else None,
    )


def _halves(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders whose classes are trained on, and those held out for the test by the user."""
    names = {folder.name for folder in _subfolders(root)}
    if "train" not in names or not names <= {"train", "val", "test"}:
        return [root], []
    if {"val", "test"} <= names:
        return [root / "train", root / "val"], [root / "test"]
    return [root / "train"], [root / name for name in sorted(names - {"train"})]


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sub.name for sub in _subfolders(folder))
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if classes else "no class folders"
        raise DataError(f"{folder} holds {found}; at least 2 classes are needed: {USAGE}")
    return classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _pool(folders: Sequence[Path], classes: tuple[str, ...], size: int) -> FilePool:
    files: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        found = _classes(folder)
        if found != classes:
            differing = ", ".join(sorted(set(found) ^ set(classes)))
            raise DataError(f"{folder} holds other classes than the training folder ({differing}); make them the same")
        for label, name in enumerate(classes):
            images = _images(folder / name)
            files += images
            labels += [label] * len(images)
    _refuse_broken(files)
    return FilePool(files, torch.tensor(labels, dtype=torch.int64), size)


def _images(folder: Path) -> list[Path]:
    images = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not images:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"class folder {folder} holds no images ({known}); add some or remove the folder")
    return images


def _refuse_broken(files: Sequence[Path]) -> None:
    broken = [file for file, sound in zip(files, in_threads(_is_sound, files), strict=True) if not sound]
    if broken:
        named = ", ".join(str(file) for file in broken[:NAMED_BROKEN])
        more = ", …" if len(broken) > NAMED_BROKEN else ""
        raise DataError(
            f"{len(broken)} of {len(files)} images cannot be read ({named}{more}); mend them or take them out"
        )


def _is_sound(file: Path) -> bool:
    """Tell whether the file's header (and a PNG's checksums) are right; pixels are not decoded."""
    try:
        with Image.open(file) as image:
            image.verify()
    except BROKEN_IMAGE:
        return False
    return True
