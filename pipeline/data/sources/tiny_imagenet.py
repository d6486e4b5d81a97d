"""Tiny-ImageNet: 100,000 + 10,000 colour pictures, 64x64, in 200 classes, from the folder its authors publish.

Source: Stanford's course CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip. The labelled ``val`` part is the
test split; the images in ``test`` have no labels.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.image_list import LabelledFiles, source_of_files
from pipeline.data.source import NAMED, Source, SourceOptions, given_folder, listed
from pipeline.errors import DataError
from pipeline.regular_file import LIST_BYTES, is_there, read_text

USAGE = "tiny-imagenet:DIR with wnids.txt, words.txt, train/ and val/val_annotations.txt"
SIDE = 64
SHIFT = 4


def load(argument: str, options: SourceOptions) -> Source:
    """Return the pictures, classes in the order of wnids, as in ImageFolder; augmentation pads by 4, crops, mirrors.

    Raises:
        DataError: the folder is missing, not in the authors' layout, or a file in it is broken.
    """
    root = given_folder(argument, USAGE)
    wnids = sorted(_lines(root / "wnids.txt"))
    splits = {"train": _train(root, wnids), "test": _val(root, wnids)}
    return source_of_files("tiny-imagenet", _names(root, wnids), splits, options, image_size=SIDE, shift=SHIFT)


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_text(file, LIST_BYTES).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); give {USAGE}") from error
    return [line for line in lines if line]


def _names(root: Path, wnids: list[str]) -> list[str]:
    """Return what words.txt calls each class; a class that it leaves out keeps its wnid."""
    words = dict(line.partition("\t")[::2] for line in _lines(root / "words.txt"))
    return [words.get(wnid) or wnid for wnid in wnids]


def _train(root: Path, wnids: list[str]) -> LabelledFiles:
    files: list[Path] = []
    labels: list[int] = []
    for label, wnid in enumerate(wnids):
        images = sorted((root / "train" / wnid / "images").glob("*.JPEG"))
        if not images:
            raise DataError(f"{root / 'train' / wnid / 'images'} holds no .JPEG files; unpack the archive again")
        files += images
        labels += [label] * len(images)
    return LabelledFiles(files, labels)


def _val(root: Path, wnids: list[str]) -> LabelledFiles:
    """Read val_annotations.txt: file, wnid and a box, by tabs."""
    table = root / "val" / "val_annotations.txt"
    number = {wnid: label for label, wnid in enumerate(wnids)}
    files: list[Path] = []
    labels: list[int] = []
    for line in _lines(table):
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in number:
            raise DataError(f"{table}: {line!r} names no class of wnids.txt; unpack the archive again")
        files.append(root / "val" / "images" / name)
        labels.append(number[wnid])
    missing = [file.name for file in files if not is_there(file)]
    if missing or not files:
        raise DataError(
            f"{table} lists {len(files)} images, {len(missing)} of which are missing ({listed(missing, NAMED)}); "
            "unpack the archive again"
        )
    return LabelledFiles(files, labels)
