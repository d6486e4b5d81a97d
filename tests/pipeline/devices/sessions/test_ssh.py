"""SSH against a real OpenSSH server: trust, login, python, uploads, cuts; each ends in a clear error or goes on."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import errors
from pipeline.devices.sessions import Zipapp, host_keys, open_session, ssh_connection
from pipeline.devices.sessions.ssh import SshSession
from pipeline.records import Device

pytestmark = pytest.mark.sshd

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"


def program(source: str) -> Zipapp:
    """A zipapp that runs ``source`` in the agent's place."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), source)
    return Zipapp.of(packed.getvalue())


def said(session: Any, line: bytes = b"hello\n", deadline_s: float = 20.0) -> bytes:
    lines: list[bytes] = []

    def first(received: bytes) -> bool:
        lines.append(received)
        return True

    session.exchange(line, deadline_s, first)
    return lines[-1]


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """Open sessions that are closed with the test."""
    sessions = []

    def start(device: Device, source: str = ECHO) -> Any:
        sessions.append(open_session(device, program(source)))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


# ------------------------------------------------------------ trust and login


def test_a_trusted_host_runs_the_zipapp_and_answers(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device())
    assert isinstance(session, SshSession)
    assert said(session, b"one\n") == b"one"
    assert said(session, b"two\n") == b"two"


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_command_to_trust_it(
    sshd: Any, opened: Any
) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(errors.HostKeyUnknownError) as e:
        opened(sshd.device())
    assert sshd.fingerprint in str(e.value)
    assert "pipeline devices trust board" in str(e.value)
    assert not (sshd.folder / "agent").exists()


def test_a_changed_host_key_is_refused_with_both_fingerprints(sshd: Any, opened: Any) -> None:
    old = sshd.fingerprint
    new = sshd.change_host_key()
    with pytest.raises(errors.HostKeyChangedError) as e:
        opened(sshd.device())
    assert old in str(e.value)
    assert new in str(e.value)


def test_a_host_key_of_another_type_than_the_trusted_one_counts_as_changed(sshd: Any, opened: Any) -> None:
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} ssh-rsa {'A' * 24}\n")
    with pytest.raises(errors.HostKeyChangedError):
        opened(sshd.device())


def test_of_several_host_keys_the_server_is_asked_for_the_trusted_type(start_sshd: Any, tmp_path: Path) -> None:
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    server = start_sshd(f"HostKey {rsa}")
    kind, key = rsa.with_suffix(".pub").read_text().split()[:2]
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
    ssh_connection.connect(server.address(), "board").close()


def test_a_pinned_fingerprint_beats_every_file(sshd: Any) -> None:
    sshd.known_hosts.write_text("")
    ssh_connection.connect(sshd.address(host_key_sha256=sshd.fingerprint), "board").close()
    sshd.trust()
    with pytest.raises(errors.HostKeyChangedError, match="host_key_sha256 pins"):
        ssh_connection.connect(sshd.address(host_key_sha256="SHA256:" + "A" * 43), "board")


def test_trusting_a_fetched_key_makes_the_next_connection_work(sshd: Any, tmp_path: Path) -> None:
    own = tmp_path / "config" / "known_hosts"
    address = sshd.address(known_hosts=str(own))
    key = ssh_connection.fetch_host_key(address, "board")
    assert key.fingerprint == sshd.fingerprint
    host_keys.store(own, key)
    ssh_connection.connect(address, "board").close()


def test_openssh_s_own_known_hosts_is_believed_even_where_it_is_hashed(sshd: Any) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(sshd.known_hosts)], check=True, capture_output=True)
    assert "|1|" in sshd.known_hosts.read_text()
    ssh_connection.connect(sshd.address(known_hosts="", more_known_hosts=(str(sshd.known_hosts),)), "board").close()


def test_a_wrong_user_or_key_is_refused_with_what_was_offered(sshd: Any, start_sshd: Any) -> None:
    with pytest.raises(errors.AuthenticationError, match=r"the user 'nobody-here' was refused .*ssh-copy-id"):
        ssh_connection.connect(sshd.address(user="nobody-here"), "board")
    with pytest.raises(errors.AuthenticationError, match="client_key"):
        ssh_connection.connect(sshd.address(identity_file=str(start_sshd().identity)), "board")


def test_a_key_that_cannot_be_used_says_why(sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    for file, problem in (
        (locked, "ssh-add"),
        (tmp_path / "none", "No such file"),
        (sshd.known_hosts, "no private key"),
    ):
        with pytest.raises(errors.AuthenticationError, match=problem):
            ssh_connection.connect(sshd.address(identity_file=str(file)), "board")


def test_a_locked_key_is_taken_from_the_ssh_agent(sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "sock")], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "sock"))
        until = time.monotonic() + 10
        while not (tmp_path / "sock").exists() and time.monotonic() < until:
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", str(sshd.identity)], check=True)
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(sshd.identity)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ssh_connection.connect(sshd.address(), "board").close()
        ssh_connection.connect(sshd.address(identity_file=None), "board").close()
    finally:
        agent.terminate()
        agent.wait(10)


def test_nobody_there_is_unreachable(sshd: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: nobody else can have the port meanwhile
        with pytest.raises(errors.UnreachableError, match="connection refused; is sshd running"):
            ssh_connection.connect(sshd.address(port=taken.getsockname()[1]), "board")
    with pytest.raises(errors.UnreachableError, match="cannot be resolved"):
        ssh_connection.connect(sshd.address(host="no-such-board.invalid"), "board")


def test_a_server_that_is_no_ssh_server_is_unreachable(start_proxy: Any, sshd: Any) -> None:
    with pytest.raises(errors.UnreachableError):
        ssh_connection.connect(sshd.address(port=start_proxy(sshd.port, 0).port), "board")


# ------------------------------------------------------------ jump hosts


def test_a_jump_host_carries_the_session(start_sshd: Any, opened: Any) -> None:
    gate, board = start_sshd(), start_sshd("AllowTcpForwarding no")
    session = opened(board.device(address=board.address(jump=gate.address())))
    assert said(session) == b"hello"
    assert host_keys.hops(board.address(jump=gate.address())) == [gate.address(), board.address(jump=gate.address())]


def test_the_jump_host_s_key_is_checked_as_strictly(start_sshd: Any, opened: Any) -> None:
    gate, board = start_sshd(), start_sshd()
    gate.known_hosts.write_text("")
    with pytest.raises(errors.HostKeyUnknownError, match=str(gate.port)):
        opened(board.device(address=board.address(jump=gate.address())))


def test_a_jump_host_that_forwards_nothing_leaves_the_board_unreachable(start_sshd: Any, opened: Any) -> None:
    gate, board = start_sshd("AllowTcpForwarding no"), start_sshd()
    with pytest.raises(errors.UnreachableError, match=str(board.port)):
        opened(board.device(address=board.address(jump=gate.address())))


# ------------------------------------------------------------ python on the board


def test_a_python_that_is_not_there_is_named_with_the_command_that_installs_one(sshd: Any, opened: Any) -> None:
    with pytest.raises(errors.PythonMissingError, match=r"tried /nowhere/python3; install one: sudo apt-get install"):
        opened(sshd.device(python="/nowhere/python3"))


def test_a_program_that_is_no_python_counts_as_none(sshd: Any, opened: Any) -> None:
    with pytest.raises(errors.PythonMissingError):
        opened(sshd.device(python="false"))


def path_with(folder: Path, **programs: str) -> str:
    """An sshd option that leaves these programs on the board's PATH."""
    folder.mkdir()
    for name in ("sh", "df"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, target in programs.items():
        (folder / name.replace("_", ".")).symlink_to(target)
    return f"SetEnv PATH={folder}"


def test_auto_on_a_board_without_python_names_all_that_was_tried(
    start_sshd: Any, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.devices.sessions.discovery.PYTHONS", ("python3", "python3.6"))
    server = start_sshd(path_with(tmp_path / "bin"))
    with pytest.raises(errors.PythonMissingError, match=r"no Python 3.6 or newer there; tried python3, python3.6;"):
        opened(server.device(python="auto"))


def test_auto_passes_over_a_python_that_does_not_run(start_sshd: Any, opened: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    server = start_sshd(path_with(tmp_path / "bin", python3=str(broken), python3_11=os.path.realpath(sys.executable)))
    assert said(opened(server.device(python="auto"))) == b"hello"


# ------------------------------------------------------------ the agent's file


def test_the_agent_goes_over_once_and_is_checked_by_its_sha256(sshd: Any, opened: Any) -> None:
    opened(sshd.device()).close()
    file = sshd.folder / "agent" / program(ECHO).name
    first = file.stat().st_mtime_ns
    opened(sshd.device()).close()
    assert file.stat().st_mtime_ns == first
    file.write_bytes(b"#" * file.stat().st_size)
    assert said(opened(sshd.device())) == b"hello"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == program(ECHO).sha256


def test_a_folder_in_the_home_and_a_name_with_blanks_work(sshd: Any, opened: Any) -> None:
    assert said(opened(sshd.device(agent_dir=str(sshd.folder / "it's a folder")))) == b"hello"


def test_a_folder_that_cannot_be_made_is_told_by_name(sshd: Any, opened: Any) -> None:
    with pytest.raises(errors.AgentError, match=r"cannot use the agent's folder /proc/agent: .*set agent: dir"):
        opened(sshd.device(agent_dir="/proc/agent"))


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a link", "a huge file"])
def test_what_is_no_file_in_the_agent_s_place_is_replaced(sshd: Any, opened: Any, what: str) -> None:
    opened(sshd.device()).close()
    file = sshd.folder / "agent" / program(ECHO).name
    file.rename(sshd.folder / "elsewhere")
    if what == "a pipe":
        os.mkfifo(file)
    elif what == "a folder":
        file.mkdir()
    elif what == "a link":
        file.symlink_to(sshd.folder / "elsewhere")
    else:
        with file.open("wb") as sparse:
            sparse.truncate(1 << 40)
    assert said(opened(sshd.device())) == b"hello"
    assert file.is_file()
    assert not file.is_symlink()


@pytest.mark.parametrize("which", ["agent", "agent/files", "above"])
def test_a_folder_that_others_may_write_to_is_refused_before_anything_goes_over(
    sshd: Any, opened: Any, which: str
) -> None:
    agent = sshd.folder / ("above/agent" if which == "above" else "agent")
    (agent / "files").mkdir(parents=True)
    (sshd.folder / which).chmod(0o777)
    with pytest.raises(errors.AgentError, match=r"cannot use the agent's folder .*: others may write to .*chmod go-w"):
        opened(sshd.device(agent_dir=str(agent)))
    assert os.listdir(agent) == ["files"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder to somebody else")
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_somebody_else_s_is_refused_by_name(sshd: Any, opened: Any, link: bool) -> None:
    theirs = sshd.folder / ("theirs" if link else "agent")
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    if link:
        (sshd.folder / "agent").symlink_to(theirs)
    with pytest.raises(errors.AgentError, match=f"cannot use the agent's folder .*: {theirs} belongs to nobody"):
        opened(sshd.device())
    assert os.listdir(theirs) == []


def test_the_agent_s_folder_and_files_are_its_user_s_alone(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device(agent_dir=str(sshd.folder / "new/agent")))
    session.put(b"content", "a.onnx")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (sshd.folder / "new").rglob("*")}
    assert [modes.pop("agent"), modes.pop("files")] == [0o700, 0o700]
    assert set(modes.values()) == {0o600}


# ------------------------------------------------------------ files


def test_a_file_appears_whole_under_its_name_and_goes_over_once(sshd: Any, opened: Any, tmp_path: Path) -> None:
    session = opened(sshd.device())
    content = os.urandom(3_000_000)
    assert session.put(content, "a.onnx") == len(content)
    assert session.put(content, "a.onnx") == 0
    assert (sshd.folder / "agent/files/a.onnx").read_bytes() == content
    (tmp_path / "b").write_bytes(b"from a file")
    assert session.put(tmp_path / "b", "b.onnx") == 11
    assert session.put(b"", "empty") == 0
    assert sorted(os.listdir(sshd.folder / "agent/files")) == ["a.onnx", "b.onnx", "empty"]


def test_a_connection_cut_in_mid_upload_is_a_lost_session_and_leaves_no_half_file(
    sshd: Any, start_proxy: Any, opened: Any
) -> None:
    proxy = start_proxy(sshd.port, 1_000_000)
    sshd.trust(proxy.port)
    device = sshd.device(address=sshd.address(port=proxy.port))
    session = opened(device)
    with pytest.raises(errors.SessionLostError):
        session.put(os.urandom(5_000_000), "big.onnx")
    assert not (sshd.folder / "agent/files/big.onnx").exists()
    assert opened(device).put(b"x" * 2_000_000, "big.onnx") == 2_000_000


@pytest.fixture
def small_disk(sshd: Any) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of this size where the agent lives."""
    folder = sshd.folder / "agent"
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")

    def mount(size: str) -> Path:
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"cannot mount a tmpfs here: {done.stderr.decode()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def test_a_full_disk_is_told_with_what_is_free_and_nothing_is_left(sshd: Any, small_disk: Any, opened: Any) -> None:
    folder = small_disk("1m")
    session = opened(sshd.device())
    with pytest.raises(errors.DiskFullError, match=r"it takes 3000000 B, \d+ B are free; make room"):
        session.put(os.urandom(3_000_000), "big.onnx")
    assert os.listdir(folder / "files") == []
    assert session.put(b"x" * 1000, "small.onnx") == 1000


def test_a_disk_too_full_for_the_agent_itself_is_told_too(sshd: Any, small_disk: Any, opened: Any) -> None:
    folder = small_disk("16k")
    with pytest.raises(errors.DiskFullError):
        opened(sshd.device(), ECHO + f"#{'x' * 50_000}")
    assert os.listdir(folder) == ["files"]


def test_a_folder_that_may_not_be_written_is_no_full_disk(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device())
    shutil.rmtree(sshd.folder / "agent/files")
    with pytest.raises(errors.AgentError, match="cannot write"):
        session.put(b"x", "a.onnx")


# ------------------------------------------------------------ exchanges


def test_an_agent_that_never_answers_ends_in_a_timeout_at_the_deadline(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device(), "import time; time.sleep(30)")  # its end would be another error
    with pytest.raises(errors.ExchangeTimeoutError, match=r"board: no answer from the agent within 0.5 s"):
        said(session, deadline_s=0.5)


def test_an_agent_that_dies_is_a_lost_session_with_its_last_words(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device(), "import sys; input(); sys.exit('the disk is on fire')")
    with pytest.raises(errors.SessionLostError, match="the agent ended; it said: the disk is on fire"):
        said(session)
    with pytest.raises(errors.SessionLostError):
        said(session)


def test_an_agent_that_floods_stderr_does_not_stop_the_answer(sshd: Any, opened: Any) -> None:
    session = opened(sshd.device(), "import sys; input(); sys.stderr.write('x' * 5_000_000); print('done', flush=True)")
    assert said(session) == b"done"


def test_a_long_answer_arrives_whole(sshd: Any, opened: Any) -> None:
    assert len(said(opened(sshd.device(), "input(); print('y' * 10_000_000, flush=True)"))) == 10_000_000


def test_the_agent_s_stdin_ends_when_the_session_is_closed(sshd: Any, opened: Any, tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    opened(sshd.device(), f"import sys; sys.stdin.read(); open({str(mark)!r}, 'w')").close()
    until = time.monotonic() + 10
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert mark.exists()


@pytest.fixture
def talkative(start_sshd: Any) -> Any:
    """A server whose login shell prints before everything, and so before SFTP's own words."""
    return start_sshd('ForceCommand printf welcome; eval "$SSH_ORIGINAL_COMMAND"')


def test_files_go_over_past_a_login_shell_that_prints(talkative: Any, opened: Any) -> None:
    session = opened(talkative.device())
    assert session.put(b"x" * 1000, "a.onnx") == 1000
    assert said(session) == b"hello"


def test_a_login_shell_that_prints_breaks_sftp_with_a_hint_where_there_is_no_server_to_run(
    talkative: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.devices.sessions.ssh._SFTP_SERVERS", ("/nowhere/sftp-server",))
    with pytest.raises(errors.DeviceError, match=r"no SFTP: .*the login shell must not print"):
        opened(talkative.device())


def test_a_login_shell_that_runs_nothing_is_told_with_what_it_said(start_sshd: Any, opened: Any) -> None:
    server = start_sshd("ForceCommand echo This account is currently not available.; exit 1")
    with pytest.raises(errors.AgentError, match=r"ended with 1 and said 'This account is currently not available.'"):
        opened(server.device())
