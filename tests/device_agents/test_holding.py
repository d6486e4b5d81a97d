"""Who holds the board, and in which modes: real agents, real kills, and a folder shaped like a board."""

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from device_agents import protocol
from tests.device_agents.boards import FolderBoard
from tests.device_agents.harness import ANSWER_WITHIN_S, Agent, descendants, eventually, running

NULL = {"runtime": "null", "warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5}
FAST = {"governor": "performance"}


@pytest.fixture
def board(tmp_path) -> FolderBoard:
    return FolderBoard(tmp_path / "board", jetson=True)


@pytest.fixture
def on_board(board, start, oldest_python):
    """Start agents of one board: the first under the oldest Python, the next under this one, and so on."""
    (board.root / "run/lock").mkdir(parents=True)
    turns = itertools.cycle([oldest_python, sys.executable])
    return lambda: start(
        next(turns),
        environment={
            "PIPELINE_BOARD_ROOT": str(board.root),
            "PIPELINE_LOCK_DIR": str(board.root / "run/lock"),
            "PATH": f"{board.programs}:{os.environ['PATH']}",
        },
    )


def watchdogs(root: Path) -> list[int]:
    """The watchdogs of one board; the agents that started them may be gone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if command.endswith(b"\0watchdog\0") and str(root).encode() in environment and running(int(entry.name)):
            found.append(int(entry.name))
    return found


def hold(agent: Agent, owner: str = "ann@desk", **arguments: object) -> dict:
    return agent.result("hold", owner=owner, **{"wait_s": 0, "modes": FAST, **arguments})


# ---------------------------------------------------------------- the lock


def test_one_holds_the_board_and_the_other_is_told_who(on_board):
    first, second = on_board(), on_board()
    assert hold(first, modes={}) == {"applied": {}, "refused": {}}

    error = second.error("hold", owner="bob@lab", wait_s=0)

    assert error["kind"] == protocol.HELD
    assert f"held by ann@desk (pid {first.process.pid}), for " in error["message"]
    assert "lost in 15 min unless something is asked" in error["message"]
    assert "ann@desk" in second.result("hello")["holder"]
    assert second.result("telemetry")


def test_a_process_that_somebody_wrote_into_the_lock_s_file_is_not_ended_for_it(on_board, board):
    """Everybody on the board can read a session's word there, and write any number beside it."""
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "--dir"])
    line = {"owner": "eve", "pid": victim.pid, "session": "ann's", "since_s": 1.0, "expires_s": None}
    with (board.root / "run/lock/pipeline-board.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(line).encode())
        file.flush()
        error = on_board().error("hold", owner="ann@desk", session="ann's", wait_s=0.6)
        assert error["kind"] == protocol.HELD
        assert f"held by eve (pid {victim.pid}), " in error["message"]
    alive = running(victim.pid)
    victim.kill()
    victim.wait()
    assert alive


def test_who_waits_hears_who_has_it_and_gets_it_when_they_let_go(on_board):
    first, second = on_board(), on_board()
    hold(first)
    second.send("hold", owner="bob@lab", wait_s=30, modes={})
    event = second.receive()

    assert (event["event"], event["holder"]["owner"]) == ("waiting", "ann@desk")
    assert first.result("release") == {"restored": {"governor": "ondemand"}}
    assert second.reply()["ok"]
    assert first.result("hello")["holder"].startswith("bob@lab")


def test_a_dead_holder_is_not_waited_for(on_board):
    first, second = on_board(), on_board()
    hold(first, modes={})
    second.send("hold", owner="bob@lab", wait_s=30)
    assert second.receive()["event"] == "waiting"
    first.process.kill()

    assert second.reply()["ok"]


def test_a_line_closed_while_waiting_ends_the_wait(on_board):
    first, second = on_board(), on_board()
    hold(first)
    second.send("hold", owner="bob@lab", wait_s=600)
    assert second.receive()["event"] == "waiting"

    assert second.close() == 0


def test_nobody_measures_while_somebody_else_holds_the_board(on_board, put):
    first, second = on_board(), on_board()
    model = put({"ms": 0.1})
    hold(first, modes={})

    assert first.result("measure", candidate=model, **NULL)
    error = second.error("measure", candidate=model, **NULL)
    assert (error["kind"], "ann@desk" in error["message"]) == (protocol.HELD, True)

    first.result("release")
    assert second.result("measure", candidate=model, **NULL)
    assert second.result("hello")["holder"] is None  # it was theirs for that one measurement


def test_without_a_hold_a_measurement_keeps_others_out_for_as_long_as_it_takes(on_board, put):
    first, second = on_board(), on_board()
    first.send("measure", candidate=put({"ms": 1.0}), **{**NULL, "min_s": 60, "max_s": 60})
    while first.receive().get("stage") != "measure":
        pass

    assert "for one measurement" in second.error("hold", owner="bob@lab", wait_s=0)["message"]
    first.close()
    assert hold(second)


def test_a_caller_that_comes_again_is_not_kept_out_by_its_own_lost_session(on_board, board):
    """Its old agent still waits for a line that a broken connection never ends."""
    lost, again, stranger = on_board(), on_board(), on_board()
    hold(lost, session="a1b2c3")

    assert stranger.error("hold", owner="bob@lab", session="ffff", wait_s=0)["kind"] == protocol.HELD
    assert hold(again, session="a1b2c3", wait_s=20) == {"applied": FAST, "refused": {}}
    assert lost.process.wait(ANSWER_WITHIN_S) == -signal.SIGTERM
    assert again.result("release") == {"restored": {"governor": "ondemand"}}


# ---------------------------------------------------------------- silence


def test_a_silent_holder_loses_the_board_and_its_modes(on_board, board):
    first, second = on_board(), on_board()
    assert hold(first, ttl_s=0.3)["applied"] == FAST

    assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not watchdogs(board.root))
    assert hold(second, "bob@lab")


def test_who_lost_it_by_silence_takes_it_again_with_the_next_request_or_hears_who_has_it(on_board, board, put):
    first, second = on_board(), on_board()
    model = put({"ms": 0.1})
    hold(first, ttl_s=1.0)
    assert eventually(lambda: board.governors == {"ondemand"})

    first.send("measure", candidate=model, **{**NULL, "min_s": 0.5, "max_s": 0.5})
    assert eventually(lambda: board.governors == {"performance"})
    assert first.reply()["ok"]

    assert eventually(lambda: board.governors == {"ondemand"})
    hold(second, "bob@lab", modes={})
    assert "bob@lab" in first.error("measure", candidate=model, **NULL)["message"]


def test_a_holder_silent_for_as_long_again_is_taken_for_gone_but_not_one_that_holds_nothing(on_board, board):
    """A host may have vanished behind a link that never tells: the line stays open."""
    silent, free = on_board(), on_board()
    hold(free, ttl_s=0.3)
    free.result("release")
    hold(silent, ttl_s=0.3)

    assert silent.process.wait(ANSWER_WITHIN_S) == 0
    assert board.governors == {"ondemand"}
    assert not watchdogs(board.root)
    assert free.result("hello")["holder"] is None


def test_work_is_not_silence(on_board, board, put):
    agent = on_board()
    hold(agent, ttl_s=0.3)
    agent.send("measure", candidate=put({"ms": 1.0}), **{**NULL, "min_s": 0.8, "max_s": 0.8})
    seen = set()
    while "event" in agent.receive():
        seen |= board.governors

    assert seen == {"performance"}


# ---------------------------------------------------------------- modes that come back whatever happens


def test_modes_come_back_at_the_end_of_the_line(on_board, board):
    agent = on_board()
    assert hold(agent) == {"applied": FAST, "refused": {}}
    assert board.governors == {"performance"}

    assert agent.close() == 0
    assert board.governors == {"ondemand"}
    assert not watchdogs(board.root)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_modes_come_back_after_the_agent_was_killed(on_board, board, number):
    agent = on_board()
    hold(agent)
    assert len(watchdogs(board.root)) == 1

    agent.process.send_signal(number)
    agent.process.wait(ANSWER_WITHIN_S)

    assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not watchdogs(board.root))


def test_modes_come_back_after_a_kill_of_the_agent_s_whole_group(start, python, board):
    """As the host does to an agent on its own machine that will not go."""
    environment = {"PIPELINE_BOARD_ROOT": str(board.root), "PIPELINE_LOCK_DIR": str(board.root)}
    agent = Agent(["setsid", *start(python).process.args], environment)
    hold(agent)

    os.killpg(agent.process.pid, signal.SIGKILL)

    assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not watchdogs(board.root))
    agent.close()


def test_nobody_gets_the_board_before_a_killed_agent_s_modes_are_back(on_board, board):
    """The watchdog inherits the lock: the next one finds the board as it was, not as it was left."""
    first, second = on_board(), on_board()
    hold(first)
    (watchdog,) = watchdogs(board.root)
    os.kill(watchdog, signal.SIGSTOP)
    first.process.kill()
    first.process.wait(ANSWER_WITHIN_S)

    assert second.error("hold", owner="bob@lab", wait_s=0.5)["kind"] == protocol.HELD
    assert board.governors == {"performance"}
    os.kill(watchdog, signal.SIGCONT)
    assert hold(second, "bob@lab", wait_s=20, modes={})
    assert board.governors == {"ondemand"}


def test_a_killed_watchdog_s_work_is_done_by_the_agent(on_board, board):
    agent = on_board()
    hold(agent)
    os.kill(watchdogs(board.root)[0], signal.SIGKILL)

    assert agent.result("release") == {"restored": {"governor": "ondemand"}}
    assert board.governors == {"ondemand"}


def test_when_both_are_killed_the_next_agent_puts_the_modes_back(on_board, board):
    first = on_board()
    hold(first)
    for pid in (watchdogs(board.root)[0], first.process.pid):
        os.kill(pid, signal.SIGKILL)
    first.process.wait(ANSWER_WITHIN_S)
    assert board.governors == {"performance"}

    hold(on_board(), "bob@lab", modes={}, wait_s=20)
    assert board.governors == {"ondemand"}


def test_a_hold_that_changes_nothing_leaves_no_watchdog_running(on_board, board):
    agent = on_board()
    result = hold(agent, modes={"governor": "turbo"})

    assert "no governor 'turbo'" in result["refused"]["governor"]
    assert not watchdogs(board.root)
    assert not (board.root.parent / "modes.json").exists()


def test_holding_again_starts_from_the_board_as_it_was(on_board, board):
    agent = on_board()
    hold(agent)
    assert hold(agent, modes={}) == {"applied": {}, "refused": {}}
    assert board.governors == {"ondemand"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nvpmodel and jetson_clocks do")
def test_a_jetson_s_modes_come_back_after_a_kill(on_board, board):
    agent = on_board()
    wanted = {"nvpmodel": 0, "jetson_clocks": True, "governor": "performance"}
    assert hold(agent, modes=wanted) == {"applied": wanted, "refused": {}}
    assert (board.nvpmodel, board.clocks, board.governors) == (0, "pinned", {"performance"})

    agent.process.kill()

    assert eventually(lambda: not watchdogs(board.root))
    assert (board.nvpmodel, board.clocks, board.governors) == (1, "scaled", {"ondemand"})


def test_release_without_a_hold_is_no_mistake(agent):
    assert agent.result("release") == {"restored": {}}


@pytest.mark.parametrize("arguments", [{}, {"owner": 3}, {"owner": "a", "ttl_s": 0}, {"owner": "a", "modes": []}])
def test_a_hold_that_makes_no_sense_is_refused(agent, arguments):
    assert agent.error("hold", **arguments)["kind"] == protocol.BAD_REQUEST


# ---------------------------------------------------------------- a board at work without a sensor


def test_a_board_without_a_sensor_is_put_to_work_and_watched(on_board):
    agent = on_board()
    result = agent.result("meter", power={"backend": "null"}, seconds=0.5, threads=2)

    assert (result["about"], result["rest"], result["load"], result["threads"]) == (None, None, None, 2)
    assert set(result["during"]) == set(agent.result("telemetry"))
    assert {event["stage"] for event in agent.events} == {"load"}
    assert not descendants(agent.process.pid)


def test_nobody_s_board_is_put_to_work_while_they_hold_it(on_board):
    first, second = on_board(), on_board()
    hold(first, modes={})

    error = second.error("meter", power=None, seconds=0.5, threads=1)
    assert (error["kind"], "ann@desk" in error["message"]) == (protocol.HELD, True)


def test_a_line_closed_while_the_board_works_ends_the_work(on_board):
    agent = on_board()
    agent.send("meter", power=None, seconds=600, threads=2)
    assert agent.receive()["stage"] == "load"
    family = descendants(agent.process.pid)

    assert agent.close() == 0
    assert len(family) == 2
    assert not any(map(running, family))
