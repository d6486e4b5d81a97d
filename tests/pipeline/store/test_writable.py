"""A folder of runs that cannot be written is found out by writing, and nothing is left there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.store.writable import try_out


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    try_out(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    try_out(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("below", ["", "runs", "a/runs"])
def test_a_file_in_its_place_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match="taken"):
        try_out(tmp_path / "taken" / below)


def test_a_name_that_no_folder_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        try_out(tmp_path / ("x" * 300))


def test_a_full_disk_and_one_that_is_read_only_are_told(
    small_disk: Path, make_read_only: Callable[[Path], None]
) -> None:
    (small_disk / "filler").write_bytes(bytes(1_500_000))
    with pytest.raises(StoreError, match="no room left to write"):
        try_out(small_disk / "runs")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    make_read_only(small_disk)
    with pytest.raises(StoreError, match="cannot be opened or written"):
        try_out(small_disk / "runs")
