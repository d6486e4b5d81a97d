"""An ordinary user of a board, with real sudo: what `devices setup` installs is enough, and is all that they get.

The board is a mount namespace with its own /etc, /run and cpufreq files, and an sshd in it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.devices.agent_client import open_agent
from pipeline.devices.diagnostics import requirements
from pipeline.devices.diagnostics.requirements import missing_requirements, script
from pipeline.errors import BoardHeldError
from pipeline.records import Device, LockSettings
from tests.command_line import Desk
from tests.conftest import SSHD, Sshd
from tests.device_agents.boards import FolderBoard
from tests.device_agents.harness import eventually

pytestmark = pytest.mark.lab

USER = "boarder"
PYTHON = "/usr/bin/python3"
FAST = {"governor": "performance"}
ENTER = """#!/bin/sh
# Everything mounted here goes with the last process of this namespace.
set -eu
mount -t tmpfs tmpfs {folder}/layer
mkdir {folder}/layer/upper {folder}/layer/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={folder}/layer/upper,workdir={folder}/layer/work /etc
mount -t tmpfs tmpfs /run
mkdir -p -m 1777 /run/lock
mkdir -m 755 /run/sshd
mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin
mount --bind {folder}/board/sys/devices/system/cpu/cpufreq /sys/devices/system/cpu/cpufreq
useradd --no-create-home --home-dir {folder}/home --shell /bin/sh --password '*' {user}
chown -R {user} {folder}/home
echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/010_{user}
exec {sshd} "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-board-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def board(folder: Path) -> FolderBoard:
    return FolderBoard(folder / "board")


@pytest.fixture
def server(folder: Path, board: FolderBoard) -> Iterator[Sshd]:
    missing = [name for name in ("sudo", "visudo", "useradd", "unshare") if shutil.which(name) is None]
    if os.geteuid() != 0:
        pytest.skip("needs root: a board of its own is a mount namespace")
    if SSHD is None or missing or not Path(PYTHON).exists():
        pytest.skip(f"apt-get install openssh-server sudo python3 (missing: {', '.join(missing) or 'sshd or python3'})")
    if not Path("/sys/devices/system/cpu/cpufreq").is_dir():
        pytest.skip("this kernel has no /sys/devices/system/cpu/cpufreq to lay a board's over")
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    for name in ("layer", "home"):
        (folder / name).mkdir()
    enter = folder / "enter"
    enter.write_text(ENTER.format(folder=folder, user=USER, sshd=SSHD))
    enter.chmod(0o755)
    server = Sshd(folder / "sshd")
    server.program = ["unshare", "-m", "--propagation", "private", str(enter)]
    server.environment = {}
    yield server.start()
    server.stop()


@pytest.fixture
def device(server: Sshd) -> Device:
    return server.device(
        address=server.address(user=USER), agent_dir="~/agent", python=PYTHON, modes=FAST, user_groups=("video",)
    )


def test_two_users_of_one_board_keep_out_of_each_other_s_way(server: Sshd, device: Device, folder: Path) -> None:
    """One lock file, whoever made it: first the user's turn, then root's."""
    roots = server.device(agent_dir=str(folder / "root-agent"), python=PYTHON, lock=LockSettings(wait_s=0.0))
    users = replace(device, lock=LockSettings(wait_s=0.0))
    for first, second in ((users, roots), (roots, users)):
        with open_agent(first) as holder, open_agent(second) as late:
            holder.hold()
            with pytest.raises(BoardHeldError, match="held by "):
                late.hold()
        assert requirements.run(second, "ls -l /run/lock/pipeline-board.lock\n")[1].startswith(f"-rw-rw-rw- 1 {USER} ")


def test_setup_brings_an_ordinary_user_the_modes_and_nothing_more(board: FolderBoard, device: Device) -> None:
    with open_agent(device) as agent:
        assert "`pipeline devices setup`" in agent.hold()["refused"]["governor"]
        fixes = missing_requirements(agent)
    assert [fix.title.partition(":")[0] for fix in fixes] == [f"{USER} may read the sensor", "power modes (governor)"]

    assert requirements.may_sudo(device)
    assert requirements.run(device, script(fixes, device)) == (0, "")
    assert requirements.run(device, f"sudo rm /etc/sudoers.d/010_{USER}\n")[0] == 0

    assert not requirements.may_sudo(device)
    for command in ("id", "/usr/local/sbin/pipeline-board reboot", "/usr/bin/tee /etc/passwd", "sh"):
        code, _ = requirements.run(device, f"sudo {command} </dev/null\n")
        assert code != 0, command
    listed = "stat -c '%U:%G %a' /usr/local/sbin/pipeline-board; ls /usr/local/sbin; id -nG\n"
    assert requirements.run(device, listed)[1].split("\n")[:2] == ["root:root 755", "pipeline-board"]

    with open_agent(device) as agent:
        assert "video" in agent.facts.groups
        assert missing_requirements(agent) == []
        assert agent.hold() == {"applied": FAST, "refused": {}}
        assert board.governors == {"performance"}
    assert eventually(lambda: board.governors == {"ondemand"})


@pytest.fixture
def desk(server: Sshd, tmp_path: Path) -> Desk:
    """A user's folder with that board in the inventory, and a kind of board that wants the group video."""
    desk = Desk(tmp_path / "desk")
    (desk.folder / "profiles").mkdir()
    desk.write("profiles/shared.yaml", "summary: a shared board\nuser_groups: [video]\nruntime: 'null'\n")
    ssh = {
        "user": USER, "port": server.port, "identity_file": str(server.identity),
        "known_hosts": str(server.known_hosts),
    }  # fmt: skip
    entry = {
        "kind": "shared", "host": "127.0.0.1", "ssh": ssh, "agent": {"dir": "~/agent", "python": PYTHON}, "modes": FAST
    }  # fmt: skip
    desk.write("inventory.yaml", json.dumps({"version": 1, "devices": {"board": entry}}))
    return desk


@pytest.mark.slow
def test_the_command_line_sets_a_board_up_over_ssh_and_then_finds_nothing_lacking(
    desk: Desk, board: FolderBoard, device: Device
) -> None:
    asked = desk.do("devices", "setup", "board", "--apply")
    assert (asked.code, "nothing was changed" in asked.err) == (1, True)
    assert requirements.run(device, "id -nG; ls /usr/local/sbin\n") == (0, f"{USER}\n")

    applied = desk.done("devices", "setup", "board", "--apply", "--yes")
    assert f"sudo usermod -aG video {USER}" in applied.out
    assert "✓ permissions" in applied.out, "checked again in a new login, in which groups count"
    again = desk.done("devices", "setup", "board", "--json").json
    assert again == {"lacking": [], "script": "", "applied": False}
    with open_agent(device) as agent:
        assert agent.hold() == {"applied": FAST, "refused": {}}
        assert board.governors == {"performance"}


def test_the_command_line_changes_nothing_where_sudo_wants_a_password(desk: Desk, device: Device) -> None:
    assert requirements.run(device, f"sudo rm /etc/sudoers.d/010_{USER}\n")[0] == 0
    refused = desk.do("devices", "setup", "board", "--apply", "--yes")
    assert refused.code == 1
    assert "board: sudo wants a password there" in refused.error
    assert requirements.run(device, "test ! -e /usr/local/sbin/pipeline-board && id -nG\n") == (0, f"{USER}\n")


def test_modes_set_by_the_helper_come_back_after_a_kill(board: FolderBoard, device: Device) -> None:
    with open_agent(device) as agent:
        assert requirements.run(device, script(missing_requirements(agent), device))[0] == 0
    with open_agent(device) as agent:
        agent.hold()
        assert board.governors == {"performance"}
        (pid,) = agents_of(device)
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: board.governors == {"ondemand"})
    assert eventually(lambda: not agents_of(device))


def test_a_script_that_fails_half_way_leaves_no_rule_behind(device: Device) -> None:
    with open_agent(device) as agent:
        text = script(missing_requirements(agent), device)
    broken = text.replace(f"{USER} ALL=(root) NOPASSWD:", f"{USER} ALL=(root NOPASSWD:")
    assert broken != text

    assert requirements.run(device, broken)[0] != 0
    code, rules = requirements.run(device, "sudo ls -A /etc/sudoers.d\n")
    assert (code, f"010_{USER}" in rules, "pipeline" in rules) == (0, True, False)
    assert requirements.may_sudo(device)


def test_where_sudo_wants_a_password_nothing_is_tried(device: Device) -> None:
    assert requirements.run(device, f"sudo rm /etc/sudoers.d/010_{USER}\n")[0] == 0

    assert not requirements.may_sudo(device)


def agents_of(device: Device) -> list[int]:
    """The agents that run for the user, watchdogs not among them."""
    listed = subprocess.run(
        ["pgrep", "-f", f"{device.python} /proc/self/fd/.*--dir"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split() if b"boarder" in Path(f"/proc/{pid}/environ").read_bytes()]
