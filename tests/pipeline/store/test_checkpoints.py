"""A training's file: replaced whole or not at all, whenever its writer is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.store.checkpoints import CheckpointFile

SIZE = 4_000_000
WRITER = """
import sys
from pathlib import Path
from pipeline.store.checkpoints import CheckpointFile
file = CheckpointFile(Path(sys.argv[1]), "base")
for number in range(1, 256):
    file.write(bytes([number]) * int(sys.argv[2]))
    print(number, flush=True)
"""


def test_what_is_written_last_is_read_until_it_is_removed(tmp_path: Path) -> None:
    file, other = CheckpointFile(tmp_path / "c", "base"), CheckpointFile(tmp_path / "c", "r1t0")
    assert file.read() is None
    file.write(b"one")
    file.write(b"two")
    other.write(b"three")
    assert (file.read(), other.read()) == (b"two", b"three")
    file.remove()
    file.remove()
    assert (file.read(), other.read()) == (None, b"three")
    other.remove()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("delay_ms", [0.0, 1.0, 2.5, 5.0])
def test_a_writer_killed_in_the_middle_leaves_the_last_good_file(tmp_path: Path, delay_ms: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "c", str(SIZE)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = int(writer.stdout.readline())
    time.sleep(delay_ms / 1000)
    writer.kill()
    rest = [int(line) for line in writer.communicate()[0].split()]
    found = CheckpointFile(tmp_path / "c", "base").read()
    assert found is not None
    assert len(found) == SIZE
    assert set(found) == {found[0]}
    assert found[0] >= max([told, *rest])


def test_a_half_written_file_is_swept_away_when_the_run_is_resumed(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x") as store:
        store.checkpoint("base").write(b"good")
        half = store.path / "checkpoints" / ".partial-x"
        half.write_bytes(b"go")
    with Store.open(tmp_path, store.id, write=True) as again:
        assert not half.exists()
        assert again.checkpoint("base").read() == b"good"


def test_a_full_disk_is_told_and_what_was_there_stays(small_disk: Path) -> None:
    file = CheckpointFile(small_disk / "c", "base")
    file.write(b"good")
    with pytest.raises(StoreError, match="no room left to write"):
        file.write(b"x" * 4_000_000)
    assert file.read() == b"good"
    assert [path.name for path in (small_disk / "c").iterdir()] == ["base.safetensors"]


def test_a_disk_that_must_not_be_written_is_told(small_disk: Path, make_read_only: Callable[[Path], None]) -> None:
    make_read_only(small_disk)
    with pytest.raises(StoreError, match="cannot be opened or written"):
        CheckpointFile(small_disk / "c", "base").write(b"x")
