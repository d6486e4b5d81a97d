"""Files named by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def test_bytes_lie_under_their_sha256(blobs: Blobs, tmp_path: Path) -> None:
    name = blobs.put(b"model")
    assert name == hashlib.sha256(b"model").hexdigest()
    assert blobs.path(name) == tmp_path / "blobs" / name[:2] / name
    assert blobs.path(name).read_bytes() == b"model"


def test_a_file_is_copied_and_stays(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"m" * 3_000_000)
    name = blobs.put(source)
    source.write_bytes(b"changed")
    blobs.verify(name)
    assert blobs.path(name).stat().st_size == 3_000_000


def test_equal_content_is_one_file(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.put(b"same") == blobs.put(b"same")
    assert len([f for f in (tmp_path / "blobs").rglob("*") if f.is_file()]) == 1


def test_putting_a_damaged_blob_again_fixes_it(blobs: Blobs) -> None:
    name = blobs.put(b"model")
    blobs.path(name).write_bytes(b"rotten")
    blobs.put(b"model")
    blobs.verify(name)


def test_a_damaged_blob_is_found_by_verifying(blobs: Blobs) -> None:
    name = blobs.put(b"model")
    blobs.path(name).write_bytes(b"rotten")
    with pytest.raises(
        StoreError, match=f"is damaged: its content has the SHA-256 {hashlib.sha256(b'rotten').hexdigest()}"
    ):
        blobs.verify(name)


@pytest.mark.parametrize("name", ["", "ab", "../../etc/passwd", "AB" * 32, "ab" * 32])
def test_what_is_no_blob_is_refused(blobs: Blobs, name: str) -> None:
    blobs.put(b"model")
    with pytest.raises(StoreError, match="there is no blob"):
        blobs.path(name)


def test_a_missing_source_is_a_store_error(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone\.onnx cannot be used: No such file"):
        blobs.put(tmp_path / "gone.onnx")


def test_what_a_killed_writer_left_half_written_goes_on_resume(tmp_path: Path) -> None:
    with Store.create(tmp_path, label="x") as store:
        name = store.put_blob(b"whole")
        half = store.path / "blobs" / ".partial-abc"
        half.write_bytes(b"ha")
    with Store.open(tmp_path, "latest", write=True) as store:
        assert not half.exists()
        store.verify_blob(name)
        assert store.blob(name).read_bytes() == b"whole"
