"""A host that vanishes while it holds a board, so that the board never hears of it: no FIN, no RST, just silence."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.agent_client import open_agent
from tests.command_line import REPOSITORY
from tests.device_agents.boards import FolderBoard
from tests.device_agents.harness import eventually
from tests.lab import links
from tests.lab.board import Board
from tests.lab.conftest import device_of, skip_without
from tests.lab.links import LinkedBoard

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FAST = {"governor": "performance"}
SILENCE_S = 4.0
"""How long a holder may be silent before the board is taken from it."""
HOLDER = """
import sys
from dataclasses import replace
from pathlib import Path
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.records import LockSettings

device = load_inventory(Path(sys.argv[1])).device("half-open")
with open_agent(replace(device, lock=LockSettings(ttl_s=float(sys.argv[2])))) as agent:
    print(agent.hold()["applied"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def board(tmp_path: Path) -> FolderBoard:
    return FolderBoard(tmp_path / "board")


@pytest.fixture
def link(tmp_path: Path, board: FolderBoard) -> Iterator[LinkedBoard]:
    skip_without(links.missing())
    (tmp_path / "link").mkdir()
    made = LinkedBoard("half-open", 3, tmp_path / "link", {"PIPELINE_BOARD_ROOT": str(board.root)})
    yield made
    made.close()


@contextlib.contextmanager
def holding(board: Board, folder: Path) -> Iterator[None]:
    """Run another host process that holds the board in fast modes, and says no more."""
    inventory = folder / "holder.yaml"
    inventory.write_text(board.inventory(runtime="null", modes=FAST))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(inventory), str(SILENCE_S)], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{FAST}\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_another_host_gets_the_board_once_the_vanished_one_s_lock_has_expired(
    link: LinkedBoard, board: FolderBoard, tmp_path: Path
) -> None:
    heard: list[Mapping[str, Any]] = []
    device = device_of(link.board, tmp_path, runtime="null", lock={"wait_s": 60})
    with open_agent(device, on_event=heard.append) as late:
        with holding(link.second_way(), tmp_path):
            assert board.governors == {"performance"}
            link.swallow_second_way()

        assert late.hold() == {"applied": {}, "refused": {}}
        assert board.governors == {"ondemand"}, "restored before anybody else gets the board"
        holders = [event["holder"] for event in heard if event["event"] == "waiting"]
        assert 0 < holders[0]["expires_s"] <= SILENCE_S
        assert len({holder["pid"] for holder in holders}) == 1

        assert late.measure(b'{"ms": 0.1}').inferences > 0
        assert eventually(lambda: len(link.board.left()["agents"]) == 1, 60), "only the late one's"
        assert link.open_on_second_way == 1, "its agent ended by itself: the board's kernel waits two hours"
    assert eventually(lambda: link.board.left()["agents"] == [])
