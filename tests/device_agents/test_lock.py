"""One lock for a board: real processes hold it, die with it, and are told of one another."""

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from device_agents import lock
from device_agents.errors import AgentError
from device_agents.lock import Lock
from tests.device_agents.harness import eventually

HOLD = """
import sys, time
from device_agents.lock import Lock
held = Lock(sys.argv[1])
assert held.take("ann@desk", "s1") is None
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "board.lock")


@pytest.fixture
def other(path):
    """Another process that holds the lock."""
    root = str(Path(lock.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_who_comes_second_learns_who_has_it_and_since_when(path, other):
    holder = Lock(path).take("bob@lab")

    assert (holder.owner, holder.pid, holder.session) == ("ann@desk", other.pid, "s1")
    assert f"ann@desk (pid {other.pid}), for " in holder.words()
    assert holder.event()["age_s"] >= 0


def test_a_dead_holder_s_lock_goes_by_itself(path, other):
    mine = Lock(path)
    assert mine.take("bob@lab")
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert mine.holder() is None
    assert mine.take("bob@lab") is None
    assert mine.holder().owner == "bob@lab"
    mine.give()


def test_a_lock_given_back_is_free_at_once_and_nobody_s(path):
    first, second = Lock(path), Lock(path)
    assert first.take("ann") is None
    assert second.take("bob").owner == "ann"
    first.give()

    assert second.holder() is None
    assert second.take("bob") is None
    second.give()


def test_whoever_only_looks_keeps_nobody_out(path):
    Path(path).touch()
    looking = os.open(path, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert Lock(path).take("bob") is not None  # for as long as they look
    os.close(looking)

    late = Lock(path)
    assert late.take("bob") is None
    late.give()


def test_the_holder_s_line_says_when_silence_will_cost_it_the_board(path):
    mine = Lock(path)
    mine.take("ann")
    assert "busy now" in mine.holder().words()
    mine.expire_at(mine.holder().since_s + 3600)

    assert "lost in 60 min unless something is asked meanwhile" in Lock(path).take("bob").words()
    mine.expire_at(0.0)
    assert Lock(path).take("bob").words().endswith("expired")
    mine.give()


def test_a_line_that_makes_no_sense_still_means_that_somebody_holds_it(path):
    mine = Lock(path)
    mine.take("ann")
    Path(path).write_text("???")

    assert Lock(path).take("bob").words() == "somebody"
    mine.give()


@pytest.mark.parametrize(
    "change",
    [
        {"owner": 7}, {"owner": None}, {"pid": "1"}, {"pid": -1}, {"pid": True}, {"pid": 10 ** 30}, {"session": []},
        {"since_s": "x"}, {"since_s": float("nan")}, {"since_s": 1e300}, {"expires_s": "soon"}, {"expires_s": []},
        {"expires_s": float("inf")}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_another_user_spoilt_still_means_that_somebody_holds_it(path, change):
    mine = Lock(path)
    mine.take("ann")
    honest = {"owner": "eve", "pid": 9, "session": "", "since_s": 1.0, "expires_s": None}
    Path(path).write_text(json.dumps(dict(honest, **change)))

    assert Lock(path).take("bob").words() == "somebody"
    assert json.dumps(Lock(path).holder().event(), allow_nan=False)
    mine.give()


def test_a_line_of_nothing_but_nests_is_no_line(path):
    mine = Lock(path)
    mine.take("ann")
    Path(path).write_text("[" * 2048)

    assert Lock(path).holder().words() == "somebody"
    mine.give()


def test_a_very_long_owner_fits_the_line(path):
    mine = Lock(path)
    mine.take("ä" * 10_000, "\0" * 10_000)

    assert Lock(path).holder().owner == "ä" * 100
    mine.give()


def test_the_file_is_everybody_s_whatever_the_umask(path):
    before = os.umask(0o077)
    try:
        Lock(path).take("ann")
    finally:
        os.umask(before)

    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o666


def test_a_link_laid_in_its_place_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(path).symlink_to(victim)

    with pytest.raises(AgentError, match=r"cannot open the board's lock .*rm "):
        Lock(path).take("ann")
    assert Lock(path).holder() is None
    assert victim.read_text() == "precious"


def test_a_folder_that_is_not_there_is_what_to_fix(tmp_path):
    with pytest.raises(AgentError, match=r"cannot make .*: No such file or directory; .*/missing has to be mode 1777"):
        Lock(str(tmp_path / "missing" / "board.lock")).take("ann")


def test_a_pipe_laid_in_its_place_is_no_lock(path):
    os.mkfifo(path)

    with pytest.raises(AgentError, match="it is no ordinary file"):
        Lock(path).take("ann")


def test_the_folder_is_chosen_by_its_mode_so_that_all_users_choose_alike(tmp_path, monkeypatch):
    monkeypatch.delenv(lock.FOLDER)
    monkeypatch.setattr(lock.readings, "ROOT", str(tmp_path))
    with pytest.raises(AgentError, match="no folder for the board's lock"):
        lock.default_path()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "run/lock").mkdir(parents=True, mode=0o755)  # root could write there, others not

    assert lock.default_path() == str(tmp_path / "tmp/pipeline-board.lock")
    (tmp_path / "run/lock").chmod(0o1777)
    assert lock.default_path() == str(tmp_path / "run/lock/pipeline-board.lock")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own a file as somebody else")
def test_another_user_s_lock_file_in_a_shared_folder_can_be_taken(tmp_path):
    """With fs.protected_regular the kernel refuses O_CREAT on such a file, even to root."""
    tmp_path.chmod(0o1777)
    path = tmp_path / "board.lock"
    path.write_text(json.dumps({}))
    path.chmod(0o666)
    os.chown(path, 65534, 65534)
    mine = Lock(str(path))

    assert mine.take("root") is None
    mine.give()


def test_a_child_that_inherits_it_holds_the_board_as_well(path):
    mine = Lock(path)
    mine.take("ann")
    child = subprocess.Popen(["sleep", "600"], pass_fds=(mine.fd,))
    mine.give()

    assert Lock(path).take("bob") is not None
    child.kill()
    child.wait()
    assert eventually(lambda: Lock(path).holder() is None)


LINES = {
    "other types": {"owner": 5, "pid": "1", "session": None, "since_s": "x"},
    "a list as owner": {"owner": ["ann"], "pid": 1, "session": "", "since_s": 0.0},
    "not a number": {"owner": "ann", "pid": 1, "session": "", "since_s": float("nan")},
    "no end": {"owner": "ann", "pid": 1, "session": "", "since_s": 0.0, "expires_s": float("inf")},
    "a huge number": {"owner": "ann", "pid": 1, "session": "", "since_s": 10**400},
    "a far year": {"owner": "ann", "pid": 1, "session": "", "since_s": 0.0, "expires_s": 1e300},
    "true as a number": {"owner": "ann", "pid": True, "session": "", "since_s": 0.0},
    "every process": {"owner": "ann", "pid": -1, "session": "", "since_s": 0.0},
    "a long owner": {"owner": "x" * 1500, "pid": 1, "session": "", "since_s": 0.0},
    "one field more": {"owner": "ann", "pid": 1, "session": "", "since_s": 0.0, "more": 1},
    "a list": [],
}


@pytest.mark.parametrize(
    "content",
    [
        *(pytest.param(json.dumps(line).encode(), id=name) for name, line in LINES.items()),
        pytest.param(b"[" * 2048, id="deep"),
        pytest.param(bytes(range(256)) * 8, id="binary"),
        pytest.param(b"9" * 2048, id="digits"),
    ],
)
def test_a_holder_s_line_that_another_user_wrote_breaks_nothing(path, content):
    mine = Lock(path)
    mine.take("ann")
    Path(path).write_bytes(content)

    for found in (Lock(path).take("bob"), Lock(path).holder()):
        assert found.words() == "somebody"
        assert json.dumps(found.event(), allow_nan=False)
    mine.give()
    assert Lock(path).holder() is None


def test_a_holder_s_name_cannot_write_on_the_reader_s_terminal(path):
    mine = Lock(path)
    mine.take("ann\x1b[2J\r\nheld by root\u202e")

    assert Lock(path).holder().owner == "ann?[2J??held by root?"
    mine.give()


@pytest.mark.parametrize("what", ["a folder", "a link to nothing", "a second name", "a socket", "a device"])
def test_what_is_no_file_of_its_own_in_its_place_is_named_and_left_alone(path, tmp_path, what):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if what == "a folder":
        Path(path).mkdir()
    elif what == "a link to nothing":
        Path(path).symlink_to(tmp_path / "nothing")
    elif what == "a second name":
        os.link(victim, path)
    elif what == "a socket":
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(path)
    else:
        if os.geteuid() != 0:
            pytest.skip("needs root to make a device")
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    begin = time.monotonic()

    with pytest.raises(AgentError, match=r"cannot open the board's lock .*; remove it: rm ") as caught:
        Lock(path).take("ann")
    assert ("rm -r" in str(caught.value)) == (what == "a folder")
    assert Lock(path).holder() is None
    assert time.monotonic() - begin < 1
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_a_huge_lock_file_is_as_good_as_any(path):
    with Path(path).open("wb") as file:
        file.truncate(1 << 40)
    mine = Lock(path)

    assert mine.take("ann") is None
    assert Lock(path).holder().owner == "ann"
    mine.give()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_lock_file_that_another_user_keeps_to_themselves_is_named_with_its_owner():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        path = Path(folder, "board.lock")
        path.touch(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(AgentError) as caught:
                Lock(str(path)).take("bob")
            assert Lock(str(path)).holder() is None
        finally:
            os.seteuid(0)

    told = f"cannot open the board's lock {path}: Permission denied (it is of user 0); remove it: sudo rm {path}"
    assert str(caught.value) == told


def test_a_file_put_in_the_lock_s_place_is_the_lock_from_then_on(path):
    first, second = Lock(path), Lock(path)
    assert first.take("ann") is None
    Path(path).unlink()
    assert second.take("bob") is None
    assert Lock(path).take("eve").owner == "bob"
    first.give()
    assert Lock(path).holder().owner == "bob"
    second.give()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a disk of one page")
def test_a_full_disk_costs_the_line_not_the_lock(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", tmp_path], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        (tmp_path / "others").write_bytes(b"x" * 4096)
        mine = Lock(str(tmp_path / "board.lock"))
        assert mine.take("ann") is None
        assert Lock(mine.path).take("bob").words() == "somebody"
        mine.give()
        assert Lock(mine.path).holder() is None
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
