"""Power modes on a folder shaped like a board: set where permitted, refused with a reason, put back as they were."""

import json
import os
from pathlib import Path

import pytest

from device_agents import modes
from device_agents.state import State
from tests.device_agents.boards import FolderBoard

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nvpmodel and jetson_clocks do")


@pytest.fixture
def board(tmp_path, monkeypatch) -> FolderBoard:
    board = FolderBoard(tmp_path / "board", jetson=True)
    monkeypatch.setenv("PATH", str(board.programs), prepend=os.pathsep)
    return board


@pytest.fixture
def state(tmp_path, board) -> State:
    return State(str(tmp_path), str(board.root))


ALL = {"governor": "performance", "nvpmodel": 0, "jetson_clocks": True}


@AS_ROOT
def test_all_modes_are_set_and_put_back(board, state):
    assert modes.apply(ALL, state) == (ALL, {})
    assert (board.governors, board.nvpmodel, board.clocks) == ({"performance"}, 0, "pinned")

    assert modes.restore(state) == {"governor": "ondemand", "nvpmodel": 1, "jetson_clocks": False}
    assert (board.governors, board.nvpmodel, board.clocks) == ({"ondemand"}, 1, "scaled")
    assert not state.there()


def test_policies_that_differed_differ_again(board, state):
    (board.root / "sys/devices/system/cpu/cpufreq/policy4/scaling_governor").write_text("conservative\n")
    modes.apply({"governor": "performance"}, state)
    assert board.governors == {"performance"}

    assert modes.restore(state) == {"governor": "conservative,ondemand"}
    assert (board.root / "sys/devices/system/cpu/cpufreq/policy4/scaling_governor").read_text() == "conservative"


def test_what_is_so_already_is_left_alone(board, state):
    board.governors = "performance"

    assert modes.apply({"governor": "performance", "nvpmodel": 1}, state) == (
        {"governor": "performance", "nvpmodel": 1},
        {},
    )
    assert not state.there()


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"governor": "turbo"}, "no governor 'turbo' on this board; there are: conservative, ondemand, performance"),
        ({"overclock": 3}, "unknown mode; known: governor, nvpmodel, jetson_clocks"),
        pytest.param({"nvpmodel": 7}, "NVPM ERROR: invalid mode 7", marks=AS_ROOT),
    ],
)
def test_a_mode_that_the_board_does_not_have_is_refused_with_its_reason(board, state, wanted, why):
    applied, refused = modes.apply(wanted, state)
    modes.restore(state)

    assert applied == {}
    assert why in refused[next(iter(wanted))]
    assert board.governors == {"ondemand"}


def test_a_bare_machine_refuses_every_mode_and_breaks_on_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(modes, "_SBIN", "/nowhere")

    applied, refused = modes.apply(ALL, State(str(tmp_path), str(tmp_path)))

    assert (applied, set(refused)) == ({}, set(ALL))
    assert "no cpufreq governor" in refused["governor"]


def test_modes_not_wanted_are_not_touched(board, state):
    assert modes.apply({"governor": None, "jetson_clocks": False}, state) == ({}, {})
    assert (board.governors, board.clocks) == ({"ondemand"}, "scaled")


def test_what_was_first_is_what_comes_back_even_after_a_crash_in_between(board, state):
    modes.apply({"governor": "performance"}, state)
    again = State(str(Path(state.clocks).parent), str(board.root))
    board.governors = "conservative"
    modes.apply({"governor": "performance"}, again)
    modes.restore(again)

    assert board.governors == {"ondemand"}


@AS_ROOT
def test_after_a_boot_only_nvpmodel_is_put_back_for_it_alone_lasts(board, state):
    modes.apply(ALL, state)
    board.boot("22222222")
    board.governors = "conservative"  # as the new boot has it

    assert modes.restore(state) == {"nvpmodel": 1}
    assert board.governors == {"conservative"}
    assert not state.there()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"boot": 1, "before": 3}', "\0\0"])
def test_a_broken_memory_is_dropped_not_believed(board, state, tmp_path, content):
    (tmp_path / "modes.json").write_text(content)

    assert modes.restore(state) == {}
    assert not state.there()
    assert board.governors == {"ondemand"}


def test_what_cannot_be_put_back_now_stays_remembered(board, state, tmp_path):
    modes.apply({"governor": "performance"}, state)
    (tmp_path / "modes.json").write_text(
        json.dumps({"boot": "11111111", "before": {**json.loads((tmp_path / "modes.json").read_text())["before"],
                                                   "jetson_clocks": "/gone/jetson_clocks.conf"}})
    )  # fmt: skip

    assert modes.restore(state) == {"governor": "ondemand"}
    assert json.loads((tmp_path / "modes.json").read_text())["before"] == {"jetson_clocks": "/gone/jetson_clocks.conf"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything; the lab tries an ordinary user")
def test_without_the_right_it_is_refused_with_the_command_that_fixes_it(board, state):
    for path in board.root.glob("sys/**/scaling_governor"):
        path.chmod(0o444)

    assert "pipeline devices setup" in modes.apply({"governor": "performance"}, state)[1]["governor"]
