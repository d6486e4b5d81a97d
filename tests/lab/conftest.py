"""The virtual boards that several tests share, each skipping with what the machine lacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.data import load_data
from pipeline.devices.inventory.load import load_inventory
from pipeline.models.digits_cnn import DigitsCNN
from pipeline.records import Device
from tests.command_line import FEW_CUTS, Desk
from tests.device_agents.harness import find_python36
from tests.lab import arm64_root, cache, userland
from tests.lab.board import Board

SETTINGS = {
    **FEW_CUTS,
    "model": "net.py:Net",
    "weights": "null",
    "base_training": "{epochs: 3}",
    "trials": "3",
    "target": "size=0.95x",
    "fine_tuning": "{finalists: 1, finalist_epochs: 0.1, epochs: 0.2, min_steps: 2, verify_images: 20}",
}
"""A whole run in little: a small network, trained in two seconds, three candidates, one finalist."""

BOARD_PROCESSES = ("nsenter", "setpriv", "sshd", "unshare")


def skip_without(*reasons: str | None) -> None:
    """Skip with the first reason that there is."""
    for reason in filter(None, reasons):
        pytest.skip(reason)


def device_of(board: Board, folder: Path, **settings: Any) -> Device:
    """Return the board as the inventory gives it to the pipeline."""
    (folder / "inventory.yaml").write_text(board.inventory(**settings))
    return load_inventory(folder / "inventory.yaml").device(board.name)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After the last test, failed or not: no mount, no link and no process of a board's."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    assert [line for line in Path("/proc/self/mounts").read_text().splitlines() if base in line] == []
    assert [link.name for link in Path("/sys/class/net").glob(f"lab{os.getpid()}-*")] == []
    below = psutil.Process().children(recursive=True)
    assert [process for process in below if process.name() in BOARD_PROCESSES or "qemu" in process.name()] == []


@pytest.fixture
def small_run(tmp_path: Path) -> Desk:
    """A user's folder with settings for a whole run in little."""
    desk = Desk(tmp_path / "desk")
    desk.settings(**SETTINGS)
    return desk


@pytest.fixture(scope="session")
def digits() -> torch.Tensor:
    """Sixteen real images, normalised."""
    images, _ = next(load_data("digits").train.batches(16))
    return images


@pytest.fixture(scope="session")
def network() -> torch.nn.Module:
    """The digits' network in narrow: quick even where every instruction is translated."""
    torch.manual_seed(0)
    return DigitsCNN(classes=10, channels=1, widths=(8, 8, 16)).eval()


@pytest.fixture(scope="session")
def system() -> Path:
    """The arm64 system that both kinds of virtual board run; made once, then kept in .lab."""
    skip_without(arm64_root.missing())
    return arm64_root.arm64_root()


@pytest.fixture(scope="session")
def raspberry_pi(system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A Raspberry Pi 4's programs behind sshd, under qemu-user."""
    skip_without(userland.missing())
    with userland.userland(system, tmp_path_factory.mktemp("pi4")) as board:
        yield board


PIP = "pip==21.3.1"
"""The last for Python 3.6."""
WHEELS = ("numpy==1.19.5", "onnxruntime==1.10.0")


@pytest.fixture(scope="session")
def python36() -> str:
    """A Python 3.6 with the wheels that a Nano's JetPack 4.6 can have."""
    found = find_python36()
    skip_without(None if found else "no python3.6 on PATH or in ~/.pyenv/versions")

    def build(folder: Path) -> None:
        own = folder / "bin" / "python"
        pip = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [str(found), "-m", "venv", str(folder)],
            [*pip, PIP],
            [*pip, "--only-binary=:all:", *WHEELS],
        ):
            subprocess.run(command, check=True)

    return str(cache.built("python36", f"{found}{PIP}{WHEELS}", build) / "bin" / "python")
