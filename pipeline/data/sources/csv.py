"""A table of image files, ``csv:FILE``: a path and a label a line, and the split where you have chosen it.

The first line names the columns; which names are known stands in ``COLUMNS``, any other column is passed over. Paths
are relative to the table. Classes are the labels of the training images, in order: by value where all are numbers. What
``val`` and ``test`` mean stands in ``image_files``.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.image_io import readable
from pipeline.data.image_list import LabelledFiles, source_of_files
from pipeline.data.source import NAMED, Source, SourceOptions, listed
from pipeline.errors import DataError
from pipeline.regular_file import LIST_BYTES, exists, home_expanded, is_folder, is_there, read_bytes

USAGE = "csv:FILE whose first line names the columns: path,label or path,label,split"
COLUMNS = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "img_path",
    ),
    "label": ("label", "class", "class_name", "classname", "category", "target", "y"),
    "split": ("split", "set", "subset", "partition"),
}
"""What the columns may be called, in any case, spaces and dashes counting as underscores; the first there counts."""
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    file: Path
    label: str
    split: str


def load(argument: str, options: SourceOptions) -> Source:
    """Return the images; augmentation cuts them at random and mirrors every second one.

    Raises:
        DataError: no table, no such column, an empty or unknown entry, a file that is missing or listed twice, a label
            that no training image has.
    """
    rows = _rows(_given_file(argument))
    _refuse_missing(rows)
    _refuse_twice(rows)
    classes = _classes(rows)
    _refuse_untrained(rows, classes)
    number = {name: label for label, name in enumerate(classes)}
    parts: dict[str, list[_Row]] = {}
    for row in rows:
        parts.setdefault(row.split, []).append(row)
    splits = {
        name: LabelledFiles([row.file for row in part], [number[row.label] for row in part])
        for name, part in parts.items()
    }
    return source_of_files("csv", classes, splits, options)


def _given_file(argument: str) -> Path:
    file = home_expanded(argument)
    if not argument or not is_there(file):
        found = (
            "a folder" if argument and is_folder(file) else "no file" if argument and exists(file) else "nothing there"
        )
        raise DataError(f"no table {argument!r} (found {found}); give {USAGE}")
    return file


def _rows(file: Path) -> list[_Row]:
    try:
        # Bytes that are no UTF-8 stay what they are, so that files so named are found.
        content = read_bytes(file, LIST_BYTES)
        with io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="surrogateescape", newline="") as stream:
            header = stream.readline()
            delimiter = max(",;\t", key=header.count)
            columns = _columns(next(csv.reader([header], delimiter=delimiter), []), file)
            reader = csv.reader(stream, delimiter=delimiter)
            rows = [_row(cells, 1 + reader.line_num, columns, file) for cells in reader if any(map(str.strip, cells))]
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a table ({error}); give {USAGE}") from error
    if not rows:
        raise DataError(f"{file} lists no images; give {USAGE}")
    return rows


def _columns(header: Sequence[str], file: Path) -> dict[str, int]:
    """Return where each column stands."""
    names = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in header]
    found = {
        column: names.index(next(name for name in known if name in names))
        for column, known in COLUMNS.items()
        if set(known) & set(names)
    }
    for column in ("path", "label"):
        if column not in found:
            there = ", ".join(repr(readable(name)) for name in header) or "nothing"
            raise DataError(
                f"{file}:1: no column is called {column} (found {there}); known names are {', '.join(COLUMNS[column])}"
            )
    return found


def _row(cells: Sequence[str], line: int, columns: Mapping[str, int], file: Path) -> _Row:
    entries = {column: cells[i].strip() if i < len(cells) else "" for column, i in columns.items()}
    for column, entry in entries.items():
        if not entry:
            raise DataError(f"{file}:{line}: the {column} is empty; fill it in or remove the line")
    split = SPLITS.get(entries.get("split", "train").lower())
    if split is None:
        raise DataError(f"{file}:{line}: the split is {readable(entries['split'])!r}; write train, val or test")
    path = Path(os.path.normpath(file.parent / entries["path"]))  # so that one file has one name
    return _Row(line, path, readable(entries["label"]), split)


def _refuse_missing(rows: Sequence[_Row]) -> None:
    missing = [f"{readable(row.file)} in line {row.line}" for row in rows if not is_there(row.file)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} listed images do not exist ({listed(missing, NAMED)}); paths are relative "
            "to the table"
        )


def _refuse_twice(rows: Sequence[_Row]) -> None:
    """Refuse a file in two lines: it could be trained on and tested with."""
    seen: dict[Path, int] = {}
    for row in rows:
        if row.file in seen:
            lines = f"lines {seen[row.file]} and {row.line}"
            raise DataError(f"{readable(row.file)} stands in {lines}; list every image once")
        seen[row.file] = row.line


def _classes(rows: Sequence[_Row]) -> list[str]:
    names = {row.label for row in rows if row.split == "train"}
    if len(names) < 2:
        found = f"one label, {min(names)!r}" if names else "no lines"
        raise DataError(f"the table holds {found} for training; at least 2 labels are needed")
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _refuse_untrained(rows: Sequence[_Row], classes: Sequence[str]) -> None:
    known = set(classes)
    row = next((row for row in rows if row.label not in known), None)
    if row is not None:
        raise DataError(
            f"line {row.line}: no training image has the label {row.label!r} of this {row.split} image; give it some, "
            f"or correct the label (there are {listed(classes, 10)})"
        )
