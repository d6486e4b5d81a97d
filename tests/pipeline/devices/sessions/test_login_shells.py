"""Every login shell that boards have, whatever its rc file prints: the real agent starts, takes files and answers."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.devices.agent_client import open_agent
from pipeline.devices.diagnostics import requirements
from pipeline.devices.sessions import open_session
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.devices.sessions.ssh import _SFTP_SERVERS
from pipeline.records import Device
from tests.conftest import SSHD, Sshd

pytestmark = pytest.mark.sshd

RC = {
    "bash": ".bashrc",
    "csh": ".cshrc",
    "dash": None,
    "fish": ".config/fish/config.fish",
    "mksh": None,
    "sh": None,
    "tcsh": ".tcshrc",
    "zsh": ".zshenv",
}
"""Login shells, each with the file that it reads before a command over SSH."""

BEFORE_SFTP = ("bash", "tcsh")
"""The shells that are tried with all that an rc file may print, a line without its end among it."""
READS = "nothing, but reads"
NOISE = {
    "a line": "echo welcome",
    "no newline": "printf welcome",
    "colours": r"printf '\033[1;32mwelcome\033[0m'",
    "a brace": r"printf '{\"welcome\": 1}'",
    "several megabytes": "head -c 3000000 /dev/zero",
    "bytes that are no text": r"printf '\377\376\000\200{'",
    READS: "head -c 100 >/dev/null & sleep 0.3; kill $!",
    "several megabytes of errors": "sh -c 'head -c 3000000 /dev/zero >&2'",
}

SFTP_SERVER = next(filter(os.path.exists, _SFTP_SERVERS), "none")

_AS_BOARD = """
set -e
mount --bind "$1" /etc/passwd
shift
exec "$@"
"""
"""Runs a command whose /etc/passwd is another file; undone with the command's end."""


class ShellBoard:
    """An sshd in which root's login shell and home are others."""

    def __init__(self, folder: Path, shell: str, *options: str) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.shell = shell
        root = pwd.getpwuid(0)
        path = shutil.which(shell) or shell
        passwd = folder / "passwd"
        line = f"{root.pw_name}:x:0:0:root:{self.home}:{path}\n"
        others = [text for text in Path("/etc/passwd").read_text().splitlines() if not text.startswith("root:")]
        passwd.write_text(line + "\n".join(others) + "\n")
        self.server = Sshd(folder / "sshd", options)
        self.server.reads_rc = True
        self.server.program = [
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _AS_BOARD, "sh", str(passwd), str(SSHD),
        ]  # fmt: skip

    def rc(self, text: str) -> None:
        """Let the shell's rc file say this; dash and mksh have none without a terminal."""
        name = RC[self.shell]
        assert name is not None
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def device(self, agent_dir: str = "~/agent") -> Device:
        return self.server.device(agent_dir=agent_dir)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[..., ShellBoard]]:
    """Start boards by ``board(shell, *sshd_options)``."""
    if os.geteuid() != 0:
        pytest.skip("needs root: another login shell is an /etc/passwd of its own")
    if SSHD is None:
        pytest.skip("OpenSSH's sshd is not installed: apt-get install openssh-server")
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    started: list[ShellBoard] = []

    def start(shell: str, *options: str) -> ShellBoard:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed: apt-get install {shell}")
        started.append(ShellBoard(tmp_path / f"board{len(started)}", shell, *options))
        started[-1].server.start()
        return started[-1]

    yield start
    for one in started:
        one.server.stop()


def works(device: Device) -> None:
    """The agent comes over, starts, answers, takes a file, and leaves nothing of it behind the next time."""
    with open_agent(device) as agent:
        assert agent.facts.user == "root"
    session = open_session(device, zipapp())
    try:
        assert session.put(b"x" * 300_000, "a.onnx") == 300_000
    finally:
        session.close()


@pytest.mark.parametrize("shell", RC)
def test_the_agent_and_scripts_run_behind_every_login_shell_and_a_folder_s_name_means_the_same(
    board: Callable[..., ShellBoard], shell: str
) -> None:
    one = board(shell)
    folder = "it's a \"$HOME\"! `id`, back\\slash \\' ~ *?[ü] end\\"
    works(one.device(f"~/{folder}"))
    assert {zipapp().name, "files"} <= {file.name for file in (one.home / folder).iterdir()}
    code, said = requirements.run(one.device(), "x=1\nif [ $x = 1 ]; then echo \"it's\" '!$HOME'; fi\nexit 3\n")
    assert (code, said) == (3, "it's !$HOME\n")


@pytest.mark.parametrize("shell", [shell for shell, rc in RC.items() if rc and shell not in BEFORE_SFTP])
def test_an_rc_file_that_prints_no_newline_harms_nothing(board: Callable[..., ShellBoard], shell: str) -> None:
    one = board(shell)
    one.rc("printf welcome")
    works(one.device())


@pytest.mark.parametrize(("shell", "noise"), [*zip(itertools.cycle(BEFORE_SFTP), NOISE, strict=False), ("tcsh", READS)])
def test_whatever_an_rc_file_prints_files_go_over_though_sftp_starts_behind_it(
    board: Callable[..., ShellBoard], shell: str, noise: str
) -> None:
    """As on Debian, where sshd starts SFTP's server as a program, by the login shell."""
    one = board(shell, f"Subsystem sftp {SFTP_SERVER}")
    one.rc(NOISE[noise])
    works(one.device())
