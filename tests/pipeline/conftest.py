"""This machine as another board: a folder in place of its /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.device_agents.boards import FolderBoard


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderBoard:
    """A folder stands in for this machine's /proc and /sys, for every agent that the test starts here."""
    board = FolderBoard(tmp_path / "board")
    monkeypatch.setenv("PIPELINE_BOARD_ROOT", str(board.root))
    monkeypatch.setenv("PIPELINE_LOCK_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(board.programs), prepend=os.pathsep)
    (board.root / "proc/meminfo").write_text("MemTotal: 3884096 kB\nMemAvailable: 3271880 kB\n")
    return board
