"""What the lab builds once and uses again: folders under ``.lab``, each named for the recipe that made it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LAB = Path(os.environ.get("PIPELINE_LAB", REPOSITORY / ".lab"))


def built(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """Return the folder that ``build`` fills: an earlier one where ``recipe`` is the same, else a new one.

    ``recipe`` is everything that decides what comes out, as text; it appears whole or not at all, and the folders of
    older recipes go. Of several processes that ask at once, one builds it and the others wait.
    """
    folder = LAB / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    LAB.mkdir(exist_ok=True)
    with _locked(LAB / f".{name}.lock"):
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=LAB) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            build(made)
            made.rename(folder)
        for old in LAB.glob(f"{name}-{'[0-9a-f]' * 16}"):
            if old != folder:
                shutil.rmtree(old)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sources(*files: str) -> str:
    """Return the text of modules of this folder, as part of a recipe."""
    return "".join((Path(__file__).parent / file).read_text() for file in files)
