"""A proxy command as the way to a board: the session works through it, and it ends with the session."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import errors
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.sessions import ssh_connection
from pipeline.devices.sessions.proxy_command import ProxyCommand
from tests.device_agents.harness import eventually

pytestmark = pytest.mark.sshd

RELAY = """
import os, select, socket, sys
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for ready in select.select([0, far], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else far.recv(65536)
        if not data:
            sys.exit()
        os.write(1, data) if ready is far else far.sendall(data)
"""


@pytest.fixture
def relay(tmp_path: Path) -> str:
    """A command that does what `nc HOST PORT` does, ready for host and port."""
    program = tmp_path / "relay.py"
    program.write_text(RELAY)
    return f"{sys.executable} {program}"


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if "relay.py" in words(process)]


def words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):  # ended meanwhile
        return " ".join(process.cmdline())
    return ""


def gone(what: Callable[[], object], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while what() and time.monotonic() < until:
        time.sleep(0.02)
    return not what()


@pytest.mark.parametrize(
    "words", ["{relay} %h %p", "cat | {relay} 127.0.0.1 {port} | cat", "sh -c 'exec {relay} %h %p'"]
)
def test_an_agent_runs_through_a_proxy_command_that_ends_with_it(
    sshd: Any, relay: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a user's ~/.ssh/config, by the inventory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    command = words.format(relay=relay, port=sshd.port)
    (tmp_path / ".ssh" / "config").write_text(
        f"Host labpi\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.address().user}\n"
        f" IdentityFile {sshd.identity}\n UserKnownHostsFile {sshd.known_hosts}\n ProxyCommand {command}\n"
    )
    file = tmp_path / "inventory.yaml"
    file.write_text(
        f"devices:\n  labpi:\n    runtime: 'null'\n    agent: {{dir: {tmp_path}/agent, python: {sys.executable}}}\n"
    )
    with open_agent(load_inventory(file).device("labpi")) as agent:
        assert agent.facts.cores >= 1
        assert children()
    assert gone(children)


def test_a_jump_host_may_lie_behind_a_proxy_command(start_sshd: Any, relay: str) -> None:
    gate, board = start_sshd(), start_sshd()
    jump = gate.address(proxy_command=f"{relay} 127.0.0.1 {gate.port}")
    there = ssh_connection.connect(board.address(jump=jump), "board")
    assert children()
    there.close()
    assert gone(children)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("nowhere-to-be-found", "not found"),
        ("echo no route >&2; exit 1", "no route"),
        ("true", "leads to no SSH server"),
        ("echo hello; cat", "leads to no SSH server"),
        ("sleep 60", "leads to no SSH server"),
    ],
)
def test_a_proxy_command_that_leads_nowhere_is_told_with_what_it_said(sshd: Any, command: str, complaint: str) -> None:
    address = sshd.address(proxy_command=command, connect_timeout_s=1.0 if "sleep" in command else 20.0)
    with pytest.raises(errors.UnreachableError, match=complaint) as e:
        ssh_connection.connect(address, "board")
    assert f"ProxyCommand `{command}`" in str(e.value)


def test_a_proxy_command_that_heeds_nothing_is_killed_with_all_that_it_started() -> None:
    proxy = ProxyCommand('sh -c \'trap "" TERM HUP; sleep 60; sleep 60\' & trap "" TERM; wait; sleep 60')
    assert eventually(lambda: "sleep 60" in map(words, psutil.Process().children(recursive=True)))
    group = [p for p in psutil.Process().children(recursive=True) if "sleep 60" in words(p)]
    assert len(group) >= 2
    proxy.close()
    assert gone(lambda: [p for p in group if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
    proxy.close()


def test_the_host_key_is_checked_behind_a_proxy_command_as_well(sshd: Any, relay: str) -> None:
    sshd.known_hosts.write_text("")
    address = sshd.address(proxy_command=f"{relay} 127.0.0.1 {sshd.port}")
    with pytest.raises(errors.HostKeyUnknownError):
        ssh_connection.connect(address, "board")
    assert ssh_connection.fetch_host_key(address, "board").fingerprint == sshd.fingerprint
    assert gone(children)


@pytest.mark.skipif(
    shutil.which("ssh") is None, reason="OpenSSH's ssh is not installed: apt-get install openssh-client"
)
def test_openssh_s_own_way_over_a_gate_is_a_proxy_command_too(start_sshd: Any) -> None:
    gate, board = start_sshd(), start_sshd()
    options = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={gate.known_hosts} -i {gate.identity} -p {gate.port}"
    command = f"ssh -F none {options} -W 127.0.0.1:{board.port} 127.0.0.1"
    ssh_connection.connect(board.address(proxy_command=command), "board").close()
