"""Files that every bundle carries beside its runtime library: an example, and README.md with $places to fill."""

from __future__ import annotations

from importlib.resources import files


def template(name: str) -> str:
    """Return the text of a file in this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
