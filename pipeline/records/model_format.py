"""A format of model files, as it travels from the format's own file to a bundle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormat:
    """What a bundle says of its model file, and how its runtime library opens it."""

    name: str
    """As a user names it; of a file of the user's own, the file's name without its folder."""
    ending: str
    """Of the files' names."""
    runtime: str
    """What runs such files, in the words of its makers."""
    packages: tuple[str, ...]
    """What the bundle's example needs beside numpy and pillow."""
    opening: str | None
    """Source of an ``open_network(path)`` for the bundle's runtime.py; None: it opens such files by itself."""

    @property
    def file(self) -> str:
        """What the model file is called, among an artifact's files and in a bundle."""
        return f"model.{self.ending}"
