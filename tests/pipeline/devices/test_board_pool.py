"""Boards that measure side by side: who gets what, and what becomes of the work of one that is lost or drifts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.devices.board_pool import BoardPool, PooledBoard, open_boards
from pipeline.devices.inventory.boards import device_of, joined
from pipeline.devices.inventory.load import Inventory
from pipeline.errors import DeviceError, InventoryError, SessionLostError
from pipeline.records import Device, MeasureSettings, SshAddress


class Board:
    """Stands where an agent does: only its name is asked for."""

    def __init__(self, name: str) -> None:
        self.device = Device(name=name, kind="local", agent_dir=name)
        self.closed = False

    def close(self) -> None:
        self.closed = True


def pool(*names: str, tell: Callable[[str], None] = lambda _: None) -> BoardPool:
    agents: list[Any] = [Board(name) for name in names]
    return BoardPool("+".join(names), [PooledBoard(agent.device.name, agent) for agent in agents], tell=tell)


def name_of(agent: Any) -> str:
    return str(agent.device.name)


def test_as_many_work_at_once_as_there_are_boards_each_on_its_own() -> None:
    boards, all_there = pool("a", "b", "c"), threading.Barrier(3, timeout=10)

    def work(agent: Any) -> str:
        all_there.wait()
        return name_of(agent)

    assert sorted(boards.at_once([lambda: boards.on_one(work)] * 3)) == ["a", "b", "c"]
    assert boards.on_each(name_of) == {"a": "a", "b": "b", "c": "c"}
    assert boards.on_one(name_of, prefer="b") == "b"


def test_work_of_a_board_that_is_lost_is_done_by_another_and_the_loss_is_told() -> None:
    told: list[str] = []
    boards, tried = pool("a", "b", tell=told.append), []

    def work(agent: Any) -> str:
        tried.append(name_of(agent))
        if name_of(agent) == "a":
            raise SessionLostError("a: cut off")
        return name_of(agent)

    assert boards.on_one(work, prefer="a") == "b"
    assert tried == ["a", "b"]
    assert (boards.measuring, boards.names) == (("b",), ("a", "b"))
    assert told == ["a is lost, b go on: a: cut off"]
    assert boards.boards[0].agent.closed  # type: ignore[union-attr]
    assert boards.agent.device.name == "b"


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_when_the_last_one_is_lost_its_error_is_raised(names: tuple[str, ...]) -> None:
    def lost(agent: Any) -> None:
        raise SessionLostError(f"{name_of(agent)}: cut off")

    boards = pool(*names)
    with pytest.raises(SessionLostError, match="cut off"):
        boards.on_one(lost)
    with pytest.raises(DeviceError, match="cut off"):  # and whoever still wants something hears of it as well
        boards.on_one(lost)
    with pytest.raises(DeviceError):
        pool(*names).on_each(lost)


def test_a_board_that_drifts_away_from_the_others_gets_no_more_work_and_is_named_with_what_to_do() -> None:
    told: list[str] = []
    boards = pool("a", "b", "c", tell=told.append)
    for _ in range(4):
        for name, slowdown in (("a", 0.0), ("b", 0.05), ("c", 0.01)):
            boards.note_speed(name, slowdown)
    assert boards.measuring == ("a", "c")
    assert boards.boards[1].status == "quarantined"
    (said,) = told
    assert "b is quarantined" in said
    assert "4.5% slower" in said
    assert "pipeline devices doctor b" in said


def test_nobody_measures_one_network_while_another_does() -> None:
    boards, inside = pool("a", "b"), []

    def alone() -> int:
        with boards.one_at_a_time("net"):
            inside.append(1)
            most = len(inside)
            inside.pop()
        return most

    assert boards.at_once([alone] * 4) == [1] * 4


def test_a_board_that_cannot_be_reached_is_told_of_and_the_others_begin(tmp_path: Any) -> None:
    here = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null")
    gone = Device(name="gone", kind="local", agent_dir=str(tmp_path / "gone"), python="/no/python", runtime="null")
    told: list[str] = []
    with open_boards(Device(name="both", kind="local", boards=(gone, here)), tell=told.append) as boards:
        assert (boards.name, boards.measuring, boards.agent.device.name) == ("both", ("here",), "here")
        assert boards.boards[0].status == "lost"
    assert told[0].startswith("gone is lost, here go on without it: gone: cannot run /no/python")
    with pytest.raises(DeviceError, match="cannot run"):
        open_boards(Device(name="both", kind="local", boards=(gone, replace(gone, name="too"))))


PI = SshAddress(host="pi.local")
NANO = SshAddress(host="nano.local")


def test_boards_of_one_run_are_of_one_kind_and_measure_alike() -> None:
    pi, nano = Device(name="pi", kind="raspberry-pi-4", ssh=PI), Device(name="nano", kind="jetson-nano", ssh=NANO)
    with pytest.raises(
        InventoryError, match=r"of one kind and .*their kind differs \(pi: raspberry-pi-4, nano: jetson-nano\)"
    ):
        joined("both", [pi, nano])
    second = Device(name="pi2", kind="raspberry-pi-4", ssh=NANO, measure=MeasureSettings(threads=4))
    with pytest.raises(InventoryError, match=r"their number of threads differs \(pi: 1, pi2: 4\)"):
        joined("both", [pi, second])
    with pytest.raises(InventoryError, match="pi3 is the same board as pi"):
        joined("both", [pi, Device(name="pi3", kind="raspberry-pi-4", ssh=PI)])
    with pytest.raises(InventoryError, match="tape is a recording"):
        joined("both", [Device(name="tape", kind="replay", recording="x"), Device(name="b", kind="replay")])
    assert joined("group:lab", [pi]) is pi


def test_names_and_groups_mean_the_boards_that_they_stand_for() -> None:
    devices = {
        name: Device(name=name, kind="linux", ssh=SshAddress(host=f"{name}.local")) for name in ("a", "b", "c")
    }  # fmt: skip
    inventory = Inventory(devices, groups={"lab": ("a", "b")})
    group = device_of(inventory, ["group:lab"])
    assert (group.name, [one.name for one in group.boards]) == ("group:lab", ["a", "b"])
    both = device_of(inventory, ["a", "c"])
    assert (both.name, [one.name for one in both.boards]) == ("a+c", ["a", "c"])
    with pytest.raises(InventoryError, match="a is named twice"):
        device_of(inventory, ["group:lab", "a"])
