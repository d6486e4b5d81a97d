"""Data sources: images, labels, classes and normalisation of a data set, before it is split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.data.image_io import Fitting
from pipeline.data.pools import Pool
from pipeline.data.presets import Preset
from pipeline.errors import DataError
from pipeline.events import Listener, Note, unheard
from pipeline.regular_file import exists, home_expanded, is_folder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel, of pixels in [0, 1]: what torchvision's trained networks expect."""
NAMED = 3
"""How many images an error names."""
NOTED = 10
"""How many skipped images a note names; the run stores all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What the user may ask of any source."""

    image_size: int | None = None
    """Side in pixels; only sources that scale their images heed it, and the next two."""
    network_side: int | None = None
    """Side that the network's own file says: that of image files where the user says none."""
    resize: int | None = None
    """See ``Fitting``."""
    interpolation: str | None = None
    preset: Preset | None = None
    """For image files, where the user has not said how they are scaled and normalised."""
    signals: bool | None = None
    """Whether a data set's tensors of two dimensions are signals, not grey images; None: by their shape."""
    max_unreadable: float = 0
    """Images that may be skipped because they cannot be read; below 1, a share of all."""
    collate: Callable[[Sequence[Any]], Any] | None = None
    """Makes a batch of the targets of single examples, which may be anything; None: they are classes."""
    listen: Listener = unheard
    """Hears how far a long check has come, and what is skipped."""

    def skip(self, corrupt: Sequence[str], images: int, why: str = "") -> None:
        """Tell of the images that are skipped, out of ``images``; ``why``: what is wrong with the first.

        Raises:
            DataError: they are more than the user allows.
        """
        if not corrupt:
            return
        allowed = self.max_unreadable * images if self.max_unreadable < 1 else self.max_unreadable
        if len(corrupt) > allowed:
            reason = f"; the first: {why}" if why else ""
            raise DataError(
                f"{len(corrupt)} of {images} images cannot be read ({listed(corrupt, NAMED)}){reason}; fix them or "
                "take them out, or let so many be skipped: "
                f"max_unreadable: {len(corrupt)} in run.yaml (now {self.max_unreadable:g})"
            )
        self.listen(Note(f"skipped {len(corrupt)} of {images} images, unreadable: {listed(corrupt, NOTED)}"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A data set as its authors publish it."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    """Channels, height, width; of signals channels, samples."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Pool
    test: Pool | None
    """None: the authors held nothing out, a part of ``train`` has to be."""
    val: Tensor | None = None
    """Which images of ``train`` the authors set aside for validation; None: a part has to be drawn."""
    skipped: tuple[str, ...] = ()
    """Images that cannot be read and are in neither pool."""
    fitting: Fitting | None = None
    """How images are scaled; None: they are taken as they are."""
    more_shapes: tuple[tuple[int, ...], ...] = ()
    """Of a network's further inputs; ``shape`` is the first one's."""


def listed(names: Sequence[object], count: int) -> str:
    """Return the first names on one line.

    >>> listed(["a", "b", "c"], 2)
    'a, b, …'
    """
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")


def given_folder(argument: str, usage: str) -> Path:
    """Return the folder that follows the colon in a data spec.

    Raises:
        DataError: none is given, or it does not exist.
    """
    if not argument:
        raise DataError(f"{usage.partition(':')[0]} needs a folder: {usage}")
    folder = home_expanded(argument)
    if not is_folder(folder):
        found = "a file" if exists(folder) else "nothing there"
        raise DataError(f"no data folder {folder} (found {found}); give an existing one: {usage}")
    return folder
