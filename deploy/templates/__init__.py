"""Files that every bundle carries: example.py lacks what opens the model file, README.md has $places to fill."""

from __future__ import annotations

import re
from importlib.resources import files

_OPENING = re.compile(r"^def open_network.*?(?=\n\n\n)", re.M | re.S)


def template(name: str) -> str:
    """Return the text of a file in this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def example_with(opening: str, name: str = "example.py") -> str:
    """Return an example with the source of its ``open_network``; ``example_arrays.py`` is for no images of classes."""
    return _OPENING.sub(lambda _: opening.rstrip("\n"), template(name))
