"""Size limits of answers, by request; checked on the bytes, before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """The most that one answer may hold."""

    size: int
    """Bytes of its line."""
    values: int
    """Numbers, texts and the like: an object costs a hundred times its two bytes once it is one of Python's."""
    containers: int
    """Lists and objects."""

    def check(self, line: bytes) -> None:
        """Look at a line.

        Raises:
            ValueError: it is larger.
        """
        found = (len(line), line.count(b",") + 1, line.count(b"[") + line.count(b"{"))
        for what, there, most in zip(("bytes", "values", "lists and objects"), found, self._all(), strict=True):
            if there > most:
                raise ValueError(f"{there} {what}, at most {most} were asked for")

    def _all(self) -> tuple[int, int, int]:
        return self.size, self.values, self.containers


SMALL = SizeLimits(size=256 * 1024, values=4000, containers=400)
"""Of what is no measurement: the facts of a board are some 2 kB."""
