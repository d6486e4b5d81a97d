"""Files of shared runs behind a URL: copied once, checked by their names; here in fsspec's store in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import ConfigError, StoreError
from pipeline.store import Store, runs_root
from pipeline.store.shared.object_files import FolderFiles, ObjectFiles, RemoteFiles, open_files

NAME = hashlib.sha256(b"network").hexdigest()


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def remote(cache: Path) -> ObjectFiles:
    return open_files("memory://lab/blobs", cache)


def test_a_folder_is_used_as_it_is_however_it_is_named(tmp_path: Path) -> None:
    for where in (str(tmp_path), f"file://{tmp_path}"):
        files = open_files(where, tmp_path / "cache")
        assert isinstance(files, FolderFiles)
        assert files.blobs.path(files.blobs.put(b"network")) == tmp_path / NAME[:2] / NAME
    assert not (tmp_path / "cache").exists()


def test_a_blob_is_fetched_once_by_each_host(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    assert isinstance(remote(tmp_path / "a"), RemoteFiles)
    assert remote(tmp_path / "a").blobs.put(b"network") == NAME
    assert remote(tmp_path / "b").blobs.path(NAME).read_bytes() == b"network"
    memory.store.clear()
    assert remote(tmp_path / "b").blobs.path(NAME) == tmp_path / "b" / NAME[:2] / NAME
    with pytest.raises(StoreError, match=rf"no blob '{NAME}' in memory://lab/blobs"):
        remote(tmp_path / "c").blobs.path(NAME)


def test_a_blob_of_other_content_is_refused_by_its_name(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe_file(f"/lab/blobs/{NAME[:2]}/{NAME}", b"netwark")
    blobs = remote(tmp_path).blobs
    for use in (blobs.path, blobs.verify):
        with pytest.raises(StoreError, match=rf"memory://lab/blobs/{NAME[:2]}/{NAME} is damaged"):
            use(NAME)


def test_a_blob_that_was_half_sent_is_sent_again(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe_file(f"/lab/blobs/{NAME[:2]}/{NAME}", b"net")
    remote(tmp_path).blobs.put(b"network")
    remote(tmp_path / "b").blobs.verify(NAME)


def test_objects_are_written_read_and_removed(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for files in (remote(tmp_path), open_files(str(tmp_path / "folder"), tmp_path)):
        assert files.read("checkpoints/x/base") is None
        files.write("checkpoints/x/base", b"state")
        assert files.read("checkpoints/x/base") == b"state"
        files.remove("checkpoints/x/base")
        files.remove("checkpoints/x/base")
        files.sweep()
        files.try_out()
    assert memory.find("/lab") == []


def test_a_store_keeps_its_files_behind_a_url(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    root = runs_root(f"sqlite:///{tmp_path}/runs.sqlite?blobs=memory://lab/blobs")
    with Store.create(root, label="x") as store:
        (store.path / "report.html").write_text("report")
        store.checkpoint("base").write(b"state")
        name = store.put_blob(b"network")
    with Store.open(root, store.id) as reader:
        assert reader.blob(name).read_bytes() == b"network"
        assert reader.checkpoint("base").read() == b"state"
        assert (reader.path / "report.html").read_text() == "report"
    assert len(memory.find("/lab/blobs")) == 3


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("s4://lab:s3cret@host/blobs", r"s4://lab:\*\*\*@host/blobs is no place of files that fsspec knows"),
        ("dropbox://lab:s3cret@host/blobs", r"dropbox://lab:\*\*\*@host/blobs needs a library that is not installed"),
    ],
)
def test_a_place_that_cannot_be_used_says_why_without_a_password(tmp_path: Path, where: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_files(where, tmp_path)
    assert "s3cret" not in str(caught.value)


def test_what_a_place_of_files_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = open_files(f"local://{tmp_path}/file/blobs", tmp_path)
    with pytest.raises(StoreError, match=r"file/blobs/.trying-\w+ cannot be read or written .*credentials"):
        files.try_out()
