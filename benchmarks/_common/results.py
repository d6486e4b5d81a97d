"""What a benchmark has found so far: rows appended to a file at once, so that a stopped one goes on; mean ± s.e."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """A file of JSON lines; rows of other settings are left alone and not seen."""

    path: Path
    settings: Mapping[str, str]

    def rows(self) -> list[Row]:
        """Return the rows of the same settings, the oldest first."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for row in map(json.loads, lines) if row["settings"] == self.settings]

    def find(self, **names: object) -> Row | None:
        """Return the newest row that has these values, None where there is none."""
        fits = (row for row in reversed(self.rows()) if all(row.get(name) == value for name, value in names.items()))
        return next(fits, None)

    def append(self, **values: Any) -> Row:
        """Write one row; it is in the file when this returns."""
        row = {"settings": dict(self.settings), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row


def mean(values: Sequence[float], *, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """Return mean ± standard error over these values alone; of values that are all alike there is none.

    Nothing that they share is in it: one set of images, one measurement that serves all seeds.

    >>> mean([0.50, 0.52], scale=100, unit=" %"), mean([0.500, 0.501], digits=1), mean([0.5]), mean([])
    ('51.00 ± 1.00 %', '0.5 ± 0.0005', '0.50', '–')
    >>> mean([0.5, 0.5, 0.5], scale=100, digits=1, unit=" %")
    '50.0 % (3 alike)'
    """
    if not values:
        return "–"
    shown = f"{scale * statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return shown + unit
    if len(set(values)) == 1:
        return f"{shown}{unit} ({len(values)} alike)"
    error = scale * statistics.stdev(values) / math.sqrt(len(values))
    rounded = f"{error:.{digits}f}"
    return f"{shown} ± {rounded if float(rounded) else f'{error:.1g}'}{unit}"


def by_images(accuracy: float, images: int) -> str:
    """Return the standard error that an accuracy has by the images that it was read on, in points (binomial).

    Networks that were read on the same images share it, so no spread over seeds, plans or methods shows it.

    >>> by_images(0.85, 1000)
    '± 1.1 points by its 1,000 images'
    """
    return f"± {100 * math.sqrt(accuracy * (1 - accuracy) / images):.1f} points by its {images:,} images"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns as wide as what stands in them, the first flush left."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(_aligned(row, widths) for row in (header, *rows))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others])
