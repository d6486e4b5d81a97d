"""What a data source's file gives: images, labels, classes and how to normalise, not yet split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.zoo.pools import Pool

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel, of pixels in [0, 1]: what torchvision's trained networks expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What the user may ask of any source."""

    image_size: int | None = None
    """Side in pixels; only sources that scale their images heed it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A data set as its authors publish it."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Pool
    test: Pool | None
    """None: the authors held nothing out, a part of ``train`` has to be."""


def given_folder(argument: str, usage: str) -> Path:
    """Return the folder that follows the colon in a data spec.

    Raises:
        DataError: none is given, or it does not exist.
    """
    if not argument:
        raise DataError(f"{usage.partition(':')[0]} needs a folder: {usage}")
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise DataError(f"no data folder {folder} (found {found}); give an existing one: {usage}")
    return folder
