"""A format of model files, as it travels from the format's own file to a bundle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormat:
    """What a bundle says of its model file, and how its example opens it."""

    name: str
    """As a user names it; of a file of the user's own, the file's name without its folder."""
    ending: str
    """Of the files' names."""
    runtime: str
    """What runs such files, in the words of its makers."""
    packages: tuple[str, ...]
    """What the bundle's example needs beside numpy and pillow."""
    opening: str
    """Source of the example's ``open_network(path)``."""

    @property
    def file(self) -> str:
        """What the model file is called, among an artifact's files and in a bundle."""
        return f"model.{self.ending}"
