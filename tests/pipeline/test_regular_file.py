"""Only regular files of bounded size are read, by whoever reads what a user names; nothing else is even waited for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.folder import MANIFEST
from deploy.verify import verify_bundle
from pipeline.api import read_model_file
from pipeline.config import load_config
from pipeline.data import load_data
from pipeline.data.image_io import FilePool
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.recording import read_header
from pipeline.errors import PipelineError
from pipeline.models.checkpoints import load_weights
from pipeline.models.user_factory import build
from pipeline.recipes.recipe import read_recipe
from pipeline.records import Device
from pipeline.regular_file import LIST_BYTES, UnfitFileError, exists, is_there, opened, read_bytes, read_text
from tests.hostile_files.kinds import Net

PATIENCE_S = 5
SPARSE_BYTES = 50_000_000_000


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Whoever waits for a pipe is interrupted."""

    def ring(*_: object) -> None:
        raise AssertionError(f"waited for {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_of_its_own(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened_socket:
        opened_socket.bind(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")


def loop(path: Path) -> None:
    path.symlink_to(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SPARSE_BYTES)


def link_to(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.symlink_to(target)

    make.__name__ = target
    return make


ODD = (
    pipe, socket_of_its_own, loop, sparse, Path.mkdir, link_to("/dev/zero"), link_to("/dev/full"), link_to("/dev/tty"),
    link_to("/proc/self/mem"), link_to("/proc/kmsg"), link_to("/proc/version"), link_to("/sys/kernel/mm/hugepages"),
    link_to("nowhere"),
)  # fmt: skip


def _model(kind: str) -> Callable[[Path], object]:
    format = "tflite" if kind == "tflite" else "onnx"
    return lambda path: read_model_file(path, Device(name="here", kind="local", format=format))


READERS: dict[str, Callable[[Path], object]] = {
    "net.onnx": _model("onnx"),
    "net.tflite": _model("tflite"),
    "net.pt": lambda path: load_weights(Net(), path),
    "net.safetensors": lambda path: load_weights(Net(), path),
    "net.py": lambda path: build(f"{path}:Net", classes=4, channels=1),
    "recipe.json": read_recipe,
    "inventory.yaml": load_inventory,
    "run.yaml": lambda path: load_config(path, {}),
    "images.csv": lambda path: load_data(f"csv:{path}"),
    "recording.jsonl.gz": read_header,
    MANIFEST: lambda path: verify_bundle(path.parent),
    "image.png": lambda path: FilePool([path], _labels(), 8).read(_labels()),
    "test.npz": lambda path: load_data(f"cifar10:{path.parent}"),
    "test.bin": lambda path: load_data(f"cifar100:{path.parent}"),
    "wnids.txt": lambda path: load_data(f"tiny-imagenet:{path.parent}"),
    "train-images-idx3-ubyte.gz": lambda path: load_data(f"fashion-mnist:{path.parent}"),
}


def _labels() -> object:
    import torch

    return torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_at_rest_is_refused_without_waiting_for_it(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / name
    if make.__name__ == "/proc/kmsg" and name in ("net.pt", "net.safetensors"):
        pytest.skip("libraries open these by their names")
    make(path)
    with pytest.raises(PipelineError):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("path", [Path("x" * 5000), Path("a\0b"), Path("/proc/self/fd/999"), Path("~nobody-such/x")])
def test_a_name_that_no_file_can_have_is_refused(name: str, path: Path) -> None:
    with pytest.raises(PipelineError):
        READERS[name](path / name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pipe, "it is a pipe, not a file"),
        (link_to("/dev/zero"), "it is a device, not a file"),
        (sparse, "it has 50 GB; at most 268 MB are read"),
        (link_to("/proc/version"), "it holds more or less than its size says"),
        (Path.mkdir, "Is a directory"),
        (loop, "Too many levels of symbolic links"),
    ],
)
def test_the_reason_is_told_as_of_any_file_that_cannot_be_read(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "it")
    with pytest.raises(OSError, match=said) as caught:
        read_bytes(tmp_path / "it", LIST_BYTES)
    assert said in str(caught.value.strerror)


def test_a_file_that_is_as_large_as_may_be_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    assert read_text(path) == "12345"
    with pytest.raises(UnfitFileError, match="it has 5 B; at most 4 B are read"):
        read_bytes(path, 4)


def test_a_file_that_grows_while_it_is_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"12345")
    with opened(path, 10) as stream:
        path.write_bytes(b"1234567")
        assert stream.read() == b"1234567"  # whoever streams sees it as it is

    real = os.fstat

    def meanwhile(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        with path.open("ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", meanwhile)
    with pytest.raises(UnfitFileError, match="more or less than its size says"):
        read_bytes(path, 100)


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"12345")
    real = os.open

    def meanwhile(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real(name, flags)

    monkeypatch.setattr(os, "open", meanwhile)
    with pytest.raises(UnfitFileError, match="it is a pipe"):
        read_bytes(path, 100)


def test_whether_a_file_is_there_is_told_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"")
    assert [is_there(tmp_path / name) for name in ("it", ".", "x" * 5000, "a\0b")] == [True, False, False, False]
    assert [exists(tmp_path / name) for name in ("it", ".", "x" * 5000, "a\0b")] == [True, True, False, False]
