"""Decode check: which image files can be read, cached until a file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import platformdirs
from PIL import Image

from pipeline.data.image_io import BROKEN_IMAGE, IMAGE_BYTES, as_rgb, in_threads
from pipeline.errors import first_line
from pipeline.events import Listener, Stage, StageProgress
from pipeline.regular_file import LIST_BYTES, opened, read_bytes

CHUNK = 1000
"""Images between two signs of progress; what was found is remembered after each."""


def unreadable(files: Sequence[Path], listen: Listener) -> list[int]:
    """Return the positions of the files that cannot be read; those known to be sound are not opened again."""
    if not files:
        return []
    memory = _memory(files)
    known = _remembered(memory)
    keys = [_key(file) for file in files]
    new = [i for i, key in enumerate(keys) if key is None or key not in known]
    if len(new) > CHUNK:
        listen(Stage(f"Decode {len(new):,} images once, to find broken ones", len(new)))
    broken: list[int] = []
    for start in range(0, len(new), CHUNK):
        chunk = new[start : start + CHUNK]
        sound = in_threads(_is_sound, [files[i] for i in chunk])
        broken += [i for i, fine in zip(chunk, sound, strict=True) if not fine]
        _remember(memory, [keys[i] for i, fine in zip(chunk, sound, strict=True) if fine])
        if len(new) > CHUNK:
            listen(StageProgress(start + len(chunk), f"{len(broken)} unreadable"))
    return broken


def fault(file: Path) -> str | None:
    """Return why a file cannot be read, as it is for training; a JPEG is decoded at an eighth of its size.

    That leaves out arithmetic, but no data.
    """
    try:
        with opened(file, IMAGE_BYTES) as stream, Image.open(stream) as image:
            image.draft("RGB", (1, 1))
            as_rgb(image)
    except BROKEN_IMAGE as error:
        return first_line(error)
    return None


def _memory(files: Sequence[Path]) -> Path:
    """Return the file, one a data set, that remembers which images are sound."""
    folder = os.path.commonpath([file.absolute().parent for file in files])
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return platformdirs.user_cache_path("pipeline") / "sound-pictures" / name


def _key(file: Path) -> str | None:
    """Return 16 digits that change with the file's path, size and time; None where it cannot be asked."""
    try:
        about = file.stat()
    except OSError:
        return None
    text = os.fsencode(file.absolute()) + f"\0{about.st_size}\0{about.st_mtime_ns}".encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _remembered(memory: Path) -> set[str]:
    try:
        return set(read_bytes(memory, LIST_BYTES).decode("ascii", "replace").split())
    except OSError:
        return set()


def _remember(memory: Path, keys: Iterable[str | None]) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        with memory.open("a", encoding="ascii") as lines:
            lines.writelines(f"{key}\n" for key in keys if key)


def _is_sound(file: Path) -> bool:
    return fault(file) is None
