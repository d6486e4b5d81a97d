"""A worker holds no more of the board's memory than it may, and what ends it says how much that is."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from device_agents import memory, protocol
from device_agents.errors import AgentError
from tests.device_agents.harness import descendants, eventually

QUICK = {"warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5, "timeout_s": 60}
NULL = {"runtime": "null", **QUICK}
HOLD = (
    "held = b'x' * (int(__import__('sys').argv[1]) * 10**6); print('ready', flush=True); __import__('time').sleep(600)"
)


@pytest.fixture
def holding():
    """Start processes that hold so many megabytes."""
    started = []

    def start(megabytes: int, before: str = "") -> int:
        process = subprocess.Popen([sys.executable, "-c", before + HOLD, str(megabytes)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def board(tmp_path):
    """A board of 1000 MB, of which so much is free."""

    def board(free_kb: int = 800_000, swap_kb: int = 0) -> str:
        (tmp_path / "board/proc").mkdir(parents=True, exist_ok=True)
        (tmp_path / "board/proc/meminfo").write_text(
            f"MemTotal: 976563 kB\nMemAvailable: {free_kb} kB\nSwapFree: {swap_kb} kB\n"
        )
        return str(tmp_path / "board")

    return board


# ---------------------------------------------------------------- what a process holds


def test_what_a_process_holds_is_what_it_wrote_to_and_no_mapped_file(holding):
    little, much = memory.held_mb(holding(1)), memory.held_mb(holding(200))

    assert 195 < much - little < 205
    assert little < 30
    assert memory.held_mb(2**30) == 0


def test_its_children_are_found_with_and_without_psutil(holding, monkeypatch):
    nested = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{}import time; time.sleep(600)'])\n"
    outer = nested.format(
        'import subprocess, sys; subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]);'
    )
    pid = holding(1, outer)
    assert eventually(lambda: len(descendants(pid)) == 2)

    by_psutil = memory.descendants(pid)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "psutil", None)  # an import of it fails
        by_proc = memory.descendants(pid)

    assert set(by_psutil) == set(by_proc) == descendants(pid)
    assert memory.descendants(2**30) == []


# ---------------------------------------------------------------- the limit


@pytest.mark.parametrize(("share", "limit"), [(0.1, 100), (0.25, 250)])
def test_a_process_over_its_share_is_named_with_what_it_held_its_limit_and_the_setting(holding, board, share, limit):
    guard = memory.Guard(holding(limit + 50), share, board())
    with pytest.raises(AgentError) as caught:
        guard.look()

    assert caught.value.kind == protocol.CRASHED
    held = float(str(caught.value).partition("held up to ")[2].split()[0])
    assert limit + 50 < held < limit + 100
    assert f"its limit is {limit} MB (measure.memory_share: {share} of the board's 1000 MB)" in str(caught.value)


def test_a_process_within_its_share_is_let_be_and_one_without_a_limit_is_not_looked_at(holding, board):
    pid = holding(150)
    memory.Guard(pid, 0.2, board()).look()
    memory.Guard(pid, None, board()).look()


def test_what_its_children_hold_counts(holding, board):
    child = (
        "import subprocess, sys\n"
        "c = subprocess.Popen([sys.executable, '-c', %r, '150'], stdout=-1); c.stdout.readline()\n"
    )
    guard = memory.Guard(holding(1, child % HOLD), 0.15, board())
    with pytest.raises(AgentError, match=r"its limit is 150 MB"):
        guard.look()


@pytest.mark.parametrize(
    ("free_kb", "swap_kb", "ended"), [(20_000, 0, True), (20_000, 50_000, False), (60_000, 0, False)]
)
def test_a_board_with_next_to_nothing_left_is_saved_as_where_a_gpu_shares_its_memory(
    holding, board, free_kb, swap_kb, ended
):
    guard = memory.Guard(holding(1), 0.5, board(free_kb, swap_kb))
    if not ended:
        guard.look()
        return
    with pytest.raises(AgentError, match=r"out of memory: 20 MB of the board's 1000 MB were left, swap included"):
        guard.look()


@pytest.mark.parametrize(
    ("path", "written"), [("memory.max", "400000000"), ("memory/memory.limit_in_bytes", "400000000")]
)
def test_a_container_has_the_memory_that_it_may_use(board, tmp_path, path, written):
    root = board()
    assert memory.board_mb(root) == pytest.approx(1000, abs=1)
    place = tmp_path / "board/sys/fs/cgroup" / path
    place.parent.mkdir(parents=True)
    place.write_text(written)
    assert memory.board_mb(root) == 400
    place.write_text("max\n" if path == "memory.max" else str(2**63 - 4096))
    assert memory.board_mb(root) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize(
    "words",
    [
        "Fail: [ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 80000000000",
        "RuntimeException: bad allocation",
        "the runtime's process was killed by SIGABRT: terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError: Unable to allocate 7.45 GiB",
        "OSError: [Errno 12] Cannot allocate memory",
        "the runtime's process was killed by SIGKILL",
    ],
)
def test_an_end_for_lack_of_memory_is_explained_whoever_puts_it_into_words(board, words):
    told = memory.Guard(os.getpid(), 0.5, board()).explain(words)

    assert told.startswith(words)
    assert "its limit is 500 MB (measure.memory_share: 0.5 of the board's 1000 MB)" in told


@pytest.mark.parametrize(
    "words", ["opset 99", "ImportError: libgomp.so.1: cannot allocate memory in static TLS block", "no shape inference"]
)
def test_another_end_is_not_explained_by_memory(board, words):
    assert memory.Guard(os.getpid(), 0.5, board()).explain(words) == words


# ---------------------------------------------------------------- the agent


def test_a_worker_that_takes_too_much_ends_soon_and_the_next_candidate_is_measured(agent, put):
    share = 400e6 / (memory.board_mb() * 1e6)
    error = agent.error("measure", candidate=put({"hold_mb": 4000}), memory_share=share, **NULL)

    assert error["kind"] == protocol.CRASHED
    assert "its limit is 400 MB (measure.memory_share: " in error["message"]
    assert float(error["message"].partition("held up to ")[2].split()[0]) < 3000  # it never got all that it wanted
    assert descendants(agent.process.pid) == set()
    assert agent.result("measure", candidate=put({"hold_mb": 50}), memory_share=share, **NULL)["candidate"]


def test_verify_has_the_limit_too(agent, put):
    share = 200e6 / (memory.board_mb() * 1e6)
    error = agent.error(
        "verify", candidate=put({"hold_mb": 2000}), inputs=put(b"", "npy"), runtime="null", memory_share=share
    )
    assert "its limit is 200 MB" in error["message"]


def test_a_build_over_the_limit_is_tried_with_half_the_workspace_and_says_so(agent, put):
    share = 200e6 / (memory.board_mb() * 1e6)
    error = agent.error(
        "measure", candidate=put({"build_holds_mb": 2000}), memory_share=share, **{**NULL, "runtime": "null_engine"}
    )

    assert error["kind"] == protocol.REFUSED
    assert "with 256 MB of workspace: out of memory" in error["message"]
    assert "with 128 MB of workspace: out of memory" in error["message"]
    assert error["message"].count("its limit is 200 MB") == 2


@pytest.mark.parametrize("value", [0, -0.1, 1.01, "half", None, True])
def test_a_share_that_makes_no_sense_is_refused(agent, value):
    error = agent.error("measure", candidate="0" * 64 + ".json", memory_share=value, **NULL)

    assert error["kind"] == protocol.BAD_REQUEST
    assert error["message"].startswith(f"argument memory_share is {value!r}, expected a number")


def test_the_kernel_would_end_a_worker_before_anything_else(each_agent, put):
    agent = each_agent
    agent.send("measure", candidate=put({}), **{**NULL, "min_s": 30, "max_s": 30})
    while agent.receive().get("stage") != "measure":
        pass
    (worker,) = descendants(agent.process.pid)
    assert Path(f"/proc/{worker}/oom_score_adj").read_text() == "1000\n"
