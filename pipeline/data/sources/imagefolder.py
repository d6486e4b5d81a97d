"""A folder of image files: DIR/CLASS/*.jpg, or DIR/{train,val,test}/CLASS/*.jpg; decoded when they are read.

What ``val`` and ``test`` beside ``train`` mean stands in ``image_files``.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.image_io import readable
from pipeline.data.image_list import LabelledFiles, source_of_files
from pipeline.data.source import Source, SourceOptions, given_folder
from pipeline.errors import DataError

USAGE = "imagefolder:DIR with a sub-folder of images for each class"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
SPLITS = frozenset({"train", "val", "test"})


def load(argument: str, options: SourceOptions) -> Source:
    """Return the images; augmentation cuts them at random and mirrors every second one.

    Raises:
        DataError: no folder, fewer than two classes, an empty class, broken images, or splits whose classes differ.
    """
    folders = _splits(given_folder(argument, USAGE))
    classes = _classes(folders["train"])
    splits = {name: _files(folder, classes) for name, folder in folders.items()}
    return source_of_files("imagefolder", [readable(name) for name in classes], splits, options)


def _splits(root: Path) -> dict[str, Path]:
    """Return the folder of each split; all of it is to train on where the user has sorted nothing."""
    names = {folder.name for folder in _subfolders(root)}
    if "train" not in names or not names <= SPLITS:
        return {"train": root}
    return {name: root / name for name in sorted(names)}


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sub.name for sub in _subfolders(folder))
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if classes else "no class folders"
        raise DataError(f"{folder} holds {found}; at least 2 classes are needed: {USAGE}")
    return classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _files(folder: Path, classes: tuple[str, ...]) -> LabelledFiles:
    found = _classes(folder)
    if found != classes:
        differing = ", ".join(sorted(set(found) ^ set(classes)))
        raise DataError(f"{folder} holds other classes than the training folder ({differing}); make them the same")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = _images(folder / name)
        files += images
        labels += [label] * len(images)
    return LabelledFiles(files, labels)


def _images(folder: Path) -> list[Path]:
    images = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not images:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"class folder {folder} holds no images ({known}); add some or remove the folder")
    return images
