"""The agent as a child process: the same seam as SSH, ended whatever it does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import errors
from pipeline.devices.sessions import Zipapp, open_session
from pipeline.devices.sessions.line_protocol import MAX_LINE_BYTES
from pipeline.records import Device

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Run a plain Python file in the agent's place."""
    sessions = []

    def start(source: str = ECHO, **changes: Any) -> Any:
        device = Device(name="local", kind="local", agent_dir=str(tmp_path / "agent"), **changes)
        sessions.append(open_session(device, Zipapp.of(source.encode())))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


def said(session: Any, line: bytes = b"hello\n", deadline_s: float = 20.0) -> bytes:
    lines: list[bytes] = []
    session.exchange(line, deadline_s, lambda received: not lines.append(received))
    return lines[-1]


def gone(process: psutil.Process, seconds: float = 5.0) -> bool:
    return process not in psutil.wait_procs([process], timeout=seconds)[1]


def test_lines_go_there_and_back(opened: Any) -> None:
    session = opened()
    assert said(session, b"one\n") == b"one"
    assert said(session, b"two\n") == b"two"


def test_lines_are_handed_over_until_one_was_the_reply(opened: Any) -> None:
    session = opened("input()\nfor i in range(5): print(i, flush=True)\ninput()")
    lines: list[bytes] = []
    session.exchange(b"go\n", 20.0, lambda line: lines.append(line) or line == b"3")
    assert lines == [b"0", b"1", b"2", b"3"]


def test_a_file_appears_under_its_name_once(opened: Any, tmp_path: Path) -> None:
    session = opened()
    assert session.put(b"content", "a.onnx") == 7
    assert session.put(b"content", "a.onnx") == 0
    (tmp_path / "b").write_bytes(b"more")
    assert session.put(tmp_path / "b", "b.onnx") == 4
    assert sorted(os.listdir(tmp_path / "agent/files")) == ["a.onnx", "b.onnx"]


def test_a_folder_that_was_deleted_meanwhile_is_made_again(opened: Any, tmp_path: Path) -> None:
    session = opened()
    (tmp_path / "agent/files").rmdir()
    assert session.put(b"content", "a.onnx") == 7


def test_a_damaged_agent_file_is_replaced(opened: Any, tmp_path: Path) -> None:
    opened().close()
    file = next((tmp_path / "agent").glob("agent-*.pyz"))
    file.write_bytes(b"#" * len(ECHO))
    assert said(opened()) == b"hello"


def test_silence_ends_in_a_timeout_at_the_deadline(opened: Any) -> None:
    session = opened("import time; time.sleep(30)")  # its end would be another error
    with pytest.raises(errors.ExchangeTimeoutError, match=r"local: no answer from the agent within 0.3 s"):
        said(session, deadline_s=0.3)


def test_an_agent_that_keeps_talking_without_answering_does_not_move_the_deadline(opened: Any) -> None:
    session = opened("import time\nwhile True: print('busy', flush=True); time.sleep(0.05)")
    with pytest.raises(errors.ExchangeTimeoutError):
        session.exchange(b"go\n", 0.5, lambda _: False)


def test_endless_lines_do_not_move_the_deadline_however_fast_they_come(opened: Any) -> None:
    session = opened("input()\nwhile True: print('busy\\n' * 9999, flush=True)")
    start = time.monotonic()
    with pytest.raises(errors.ExchangeTimeoutError):
        session.exchange(b"go\n", 0.5, lambda _: False, 1 << 40)
    assert time.monotonic() - start < 60


def test_an_agent_that_does_not_listen_does_not_stop_the_host(opened: Any) -> None:
    session = opened("import time; time.sleep(30)")
    with pytest.raises(errors.ExchangeTimeoutError):
        said(session, b"x" * 10_000_000, deadline_s=0.5)


def test_more_bytes_than_an_answer_may_have_are_no_answer(opened: Any) -> None:
    session = opened("input()\nwhile True: print('x' * 999, flush=True)")
    with pytest.raises(errors.AgentError, match=r"more bytes than its answer has|without a newline"):
        session.exchange(b"go\n", 20.0, lambda _: False, 100_000)


def test_an_agent_that_dies_tells_its_last_words(opened: Any) -> None:
    with pytest.raises(errors.SessionLostError, match="it said: out of paper"):
        said(opened("import sys; sys.exit('out of paper')"))


def test_a_stream_without_lines_is_no_agent(opened: Any) -> None:
    session = opened(f"import sys\ninput()\nsys.stdout.write('x' * {MAX_LINE_BYTES + 100_000}); input()")
    with pytest.raises(errors.AgentError, match="without a newline"):
        said(session, deadline_s=60)


def test_a_flood_on_stderr_does_not_stop_the_answer(opened: Any) -> None:
    assert said(opened("import sys; input(); sys.stderr.write('x' * 5_000_000); print('done', flush=True)")) == b"done"


def test_closing_ends_an_agent_that_listens_and_kills_one_that_does_not(opened: Any) -> None:
    for source in (ECHO, "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"):
        before = set(psutil.Process().children())
        session = opened(source)
        (child,) = set(psutil.Process().children()) - before
        session.close()
        session.close()
        assert gone(child)
        with pytest.raises(errors.SessionLostError):
            said(session)


def test_what_an_agent_that_does_not_listen_started_ends_with_it(opened: Any) -> None:
    """In a session of its own as well, which a kill of the agent's group does not reach."""
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
    session = opened(
        f"import subprocess, sys, time\n{child}\nfor line in sys.stdin: print({child}.pid, flush=True)\ntime.sleep(60)"
    )
    family = psutil.Process(int(said(session))).parent().children(recursive=True)
    assert len(family) == 2
    session.close()
    assert all(map(gone, family))


def test_a_python_that_is_not_there_is_named(opened: Any) -> None:
    with pytest.raises(errors.PythonMissingError, match="cannot run /nowhere/python"):
        opened(python="/nowhere/python")


def test_a_folder_that_cannot_be_made_is_named() -> None:
    device = Device(name="local", kind="local", agent_dir="/proc/agent")
    with pytest.raises(errors.AgentError, match="cannot make the agent's folder /proc/agent"):
        open_session(device, Zipapp.of(b""))


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a link", "a huge file"])
def test_what_is_no_file_in_the_agent_s_place_is_replaced(opened: Any, tmp_path: Path, what: str) -> None:
    opened().close()
    (file,) = (tmp_path / "agent").glob("agent-*.pyz")
    file.rename(tmp_path / "elsewhere")
    if what == "a pipe":
        os.mkfifo(file)
    elif what == "a folder":
        file.mkdir()
    elif what == "a link":
        file.symlink_to(tmp_path / "elsewhere")
    else:
        with file.open("wb") as sparse:
            sparse.truncate(1 << 40)
    assert said(opened()) == b"hello"
    assert file.is_file()
    assert not file.is_symlink()


def test_a_folder_that_others_may_write_to_is_refused_with_what_fixes_it(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent").chmod(0o777)
    with pytest.raises(errors.AgentError, match=r"cannot use the agent's folder: others may .*: chmod go-w \S+/agent;"):
        opened()


def test_the_agent_s_folder_and_files_are_its_user_s_alone_under_any_umask(opened: Any, tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        session = opened()
        session.put(b"content", "a.onnx")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "agent").rglob("*")}
    assert (tmp_path / "agent").stat().st_mode & 0o777 == modes.pop("files") == 0o700
    assert set(modes.values()) == {0o600}
