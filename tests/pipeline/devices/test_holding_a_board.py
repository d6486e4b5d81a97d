"""A board held over a real sshd: whatever becomes of the connection, clocks come back and no process stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_agents.lock import Lock
from pipeline.devices.agent_client import open_agent
from pipeline.errors import BoardHeldError, DeviceError
from pipeline.records import Device, LockSettings
from tests.conftest import Proxy, Sshd
from tests.device_agents.boards import FolderBoard
from tests.device_agents.harness import eventually, running

pytestmark = pytest.mark.sshd

FAST = {"governor": "performance"}
MODEL = b'{"ms": 0.1}'


@pytest.fixture
def board(tmp_path: Path) -> FolderBoard:
    return FolderBoard(tmp_path / "board")


@pytest.fixture
def server(sshd: Sshd, board: FolderBoard) -> Sshd:
    """Whoever logs in finds the folder in place of this machine's /proc and /sys."""
    sshd.stop()
    sshd.environment = {"PIPELINE_BOARD_ROOT": str(board.root), "PIPELINE_LOCK_DIR": str(board.root)}
    return sshd.start()


@pytest.fixture
def device(server: Sshd) -> Device:
    return server.device(modes=FAST)


@pytest.fixture
def silent(server: Sshd) -> Device:
    """Two seconds of silence lose the board, four the session, and no other session is opened then."""
    return server.device(modes=FAST, address=server.address(retries=0), lock=LockSettings(ttl_s=2.0))


def left(board: FolderBoard) -> list[str]:
    """The command lines of the processes on the board."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"PIPELINE_BOARD_ROOT={board.root}".encode() in (entry / "environ").read_bytes():
                found += [(entry / "cmdline").read_bytes().decode()] * running(int(entry.name))
        except OSError:
            continue
    return found


def test_a_session_that_ends_in_order_leaves_the_board_as_it_was(board: FolderBoard, device: Device) -> None:
    with open_agent(device) as agent:
        assert agent.hold() == {"applied": FAST, "refused": {}}
        assert agent.hold() == {"applied": FAST, "refused": {}}  # asked once: a run stores what it says
        assert board.governors == {"performance"}

    assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not left(board))


def test_a_cut_connection_leaves_the_board_as_it_was(
    board: FolderBoard, server: Sshd, start_proxy: Callable[[int, int], Proxy]
) -> None:
    proxy = start_proxy(server.port, 400_000)
    server.trust(proxy.port)
    device = server.device(modes=FAST, address=server.address(port=proxy.port, retries=0))
    agent = open_agent(device)
    agent.hold()
    assert board.governors == {"performance"}

    with pytest.raises(DeviceError):
        agent.measure(b'{"ms": 0.1}' + b" " * 500_000, "onnx")

    assert proxy.cuts == 1
    assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not left(board))


def test_after_a_cut_the_new_session_holds_the_board_in_the_same_modes(
    board: FolderBoard, server: Sshd, start_proxy: Callable[[int, int], Proxy]
) -> None:
    proxy = start_proxy(server.port, 400_000)
    server.trust(proxy.port)
    with open_agent(server.device(modes=FAST, address=server.address(port=proxy.port))) as agent:
        agent.hold()
        agent.measure(MODEL + b" " * 500_000, "onnx")
        assert proxy.cuts == 1
        assert board.governors == {"performance"}

    assert eventually(lambda: board.governors == {"ondemand"} and not left(board))


def test_a_silent_run_loses_the_board_and_takes_it_again_when_it_goes_on(board: FolderBoard, silent: Device) -> None:
    lock = Lock(str(board.root / "pipeline-board.lock"))
    with open_agent(silent) as agent:
        agent.hold()
        assert lock.holder() is not None
        assert eventually(lambda: board.governors == {"ondemand"} and lock.holder() is None)
        assert agent.measure(MODEL, "onnx").inferences > 0
        assert board.governors == {"performance"}


def test_a_run_that_lost_the_board_by_silence_waits_for_whoever_took_it(
    board: FolderBoard, device: Device, silent: Device
) -> None:
    heard: list[Mapping[str, Any]] = []
    letting_go: list[threading.Timer] = []

    def on_event(event: Mapping[str, Any]) -> None:
        heard.append(event)
        if event["event"] == "waiting" and not letting_go:
            letting_go.append(threading.Timer(0.1, other.close))
            letting_go[0].start()

    with open_agent(replace(device, modes={})) as other, open_agent(silent, on_event=on_event) as agent:
        agent.hold()
        assert eventually(lambda: board.governors == {"ondemand"})
        other.hold()

        assert agent.measure(MODEL, "onnx").inferences > 0
    letting_go[0].join()
    assert heard[0]["event"] == "waiting"


def test_who_waits_in_vain_is_told_by_whom_the_board_is_held(device: Device) -> None:
    heard: list[Mapping[str, Any]] = []
    with open_agent(device) as first, open_agent(
        replace(device, lock=LockSettings(wait_s=0.5)), on_event=heard.append
    ) as second:  # fmt: skip
        first.hold()
        with pytest.raises(BoardHeldError, match=r"board: held by .*@.* \(pid \d+\), for .*wait_s in the inventory"):
            second.hold()
        with pytest.raises(BoardHeldError):
            second.measure(MODEL, "onnx")

    assert {event["event"] for event in heard} == {"waiting"}
    assert "@" in heard[0]["holder"]["words"]
