"""What several parts' tests need: another board in this machine's place, and sums that round alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device_agents.boards import FolderBoard
from tests.postgresql_server import PostgresqlServer, programs


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderBoard:
    """A folder stands in for this machine's /proc and /sys, for every agent that the test starts here."""
    board = FolderBoard(tmp_path / "board")
    monkeypatch.setenv("PIPELINE_BOARD_ROOT", str(board.root))
    monkeypatch.setenv("PIPELINE_LOCK_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(board.programs), prepend=os.pathsep)
    (board.root / "proc/meminfo").write_text("MemTotal: 3884096 kB\nMemAvailable: 3271880 kB\n")
    return board


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: sums then round alike each time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server of PostgreSQL; tests make databases of their own."""
    if programs() is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    server = PostgresqlServer().start()
    yield server
    server.remove()
