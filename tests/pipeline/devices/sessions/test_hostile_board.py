"""A board that floods, drips or lies over real SSH: a clear error in time, in little memory, fit to be shown."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pipeline.devices import agent_client
from pipeline.devices.sessions import ssh, ssh_connection
from pipeline.errors import DeviceError, UnreachableError
from pipeline.records import SshAddress
from tests.hostile_answers import steers
from tests.hostile_board import ATTACKS, Attack

pytestmark = pytest.mark.sshd

DEADLINE_S = 0.7
_LATE = re.compile("took more than|no answer from the agent within")
LONG_S = 60.0
"""No limit but a hang's: of what answers at once, however busy the machine is."""


def deadline_s(attack: Attack, *, meets: bool) -> float:
    """Return the limit of a step: short where the attack ``meets`` it there and may be ended by nothing else."""
    return DEADLINE_S if meets and _LATE.search(attack.said) else LONG_S


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.words)
def test_a_hostile_board_ends_in_one_clear_error_in_time_and_in_little_memory(
    attack: Attack, start_sshd: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = attack.words.partition(":")[0]
    monkeypatch.setattr(ssh, "_PROBE_S", deadline_s(attack, meets=step == "login"))
    monkeypatch.setattr(ssh, "_SFTP_S", deadline_s(attack, meets=step == "files"))
    monkeypatch.setattr(ssh, "_SFTP_SERVERS", ("/nowhere/sftp-server",))
    monkeypatch.setattr(ssh, "_SLOWEST_BYTES_A_SECOND", 1e9)
    monkeypatch.setattr(agent_client, "QUICK_S", deadline_s(attack, meets=step == "agent"))
    sshd = start_sshd(*attack.lines(tmp_path))
    before, start = psutil.Process().memory_info().rss, time.monotonic()

    with pytest.raises(DeviceError) as caught:
        attack.meet(sshd.device(address=sshd.address(retries=0)))

    assert time.monotonic() - start < LONG_S
    assert psutil.Process().memory_info().rss - before < 100e6
    assert re.search(attack.said, str(caught.value)), str(caught.value)
    assert not steers(str(caught.value)), repr(str(caught.value))
    assert str(caught.value).startswith("board")
    assert len(str(caught.value)) < 1500


def _flood(there: socket.socket) -> None:
    while True:
        there.sendall(b"x" * (1 << 20))


def _flood_lines(there: socket.socket) -> None:
    while True:
        there.sendall(b"welcome\r\n" * 9999)


def _drip(there: socket.socket) -> None:
    while True:
        there.sendall(b"S")
        time.sleep(0.1)


def _greet_and_fall_silent(there: socket.socket) -> None:
    there.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
    time.sleep(2 * LONG_S)


def _greet_and_flood(there: socket.socket) -> None:
    there.sendall(b"SSH-2.0-\x1b[2J\r\n")
    _flood(there)


@pytest.mark.parametrize("deed", [_flood, _flood_lines, _drip, _greet_and_fall_silent, _greet_and_flood])
def test_what_only_sits_on_the_port_of_an_ssh_server_is_unreachable_in_time(
    deed: Callable[[socket.socket], None],
) -> None:
    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as there:
            deed(there)

    before, start = psutil.Process().memory_info().rss, time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        address = SshAddress(host="127.0.0.1", port=listener.getsockname()[1], connect_timeout_s=DEADLINE_S)
        with pytest.raises(UnreachableError) as caught:
            ssh_connection.connect(address, "board")

    assert time.monotonic() - start < LONG_S
    assert psutil.Process().memory_info().rss - before < 100e6
    assert not steers(str(caught.value)), repr(str(caught.value))
