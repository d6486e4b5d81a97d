"""Boards on links of their own: a network namespace with an sshd each, joined to this machine by a veth pair.

A link can be slow, cut and fixed; a board can lose its power and get it back. All of it hangs on one process a board:
when that goes, the namespace goes, and both ends of the cable with it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.conftest import SSHD
from tests.lab.board import DIES_WITH_US, Board, Keys

NETWORK, OTHER_NETWORK = "10.213.{number}", "10.214.{number}"
PREFIX_BITS = 24
PORT = 22
CONFIG = """\
HostKey {folder}/keys/host_key
AuthorizedKeysFile {folder}/keys/client_key.pub
UsePAM no
UseDNS no
StrictModes no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv SHLVL=1 PIPELINE_LOCK_DIR={folder}/lock {environment}
"""
START = (
    "mount -t proc proc /proc; mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/sshd; exec {sshd} -D -e -f {config}"
)
ESTABLISHED = "01"
BURST, QUEUE_MS = "32kbit", 400


def missing() -> str | None:
    """Say why there can be no links here, or None."""
    if os.geteuid() != 0:
        return "not root: network namespaces need it"
    for program, package in (
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
    ):
        if not shutil.which(program):
            return f"no {program}: apt-get install {package}"
    if SSHD is None:
        return "OpenSSH's sshd is not installed: apt-get install openssh-server"
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "ip", "link"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"no network namespaces: {tried.stderr.decode().strip()}"


class LinkedBoard:
    """A board behind a link; it has power and its cable is plugged in as soon as this is made.

    ``environment`` is what everybody who logs in finds set.
    """

    def __init__(self, name: str, number: int, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._number = number
        self._subnet = NETWORK.format(number=number)
        self._near, self._far = f"lab{os.getpid()}-{number}", "eth0"
        self.board = Board(
            name=name, kind="linux", host=f"{self._subnet}.2", port=PORT, user="root",
            keys=Keys.new(folder / "keys"), python=sys.executable, agent_dir=str(folder / "agent"),
        )  # fmt: skip
        (folder / "lock").mkdir()
        settings = " ".join(f"{key}={value}" for key, value in (environment or {}).items())
        (folder / "sshd_config").write_text(CONFIG.format(folder=folder, environment=settings))
        self._namespace = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "--kill-child", "--fork", "sleep", "infinity"]
        )
        self._power: subprocess.Popen[bytes] | None = None
        try:
            self._plug_in()
            self.power_on()
        except BaseException:
            self.close()
            raise

    def slow_down(self, mbit_s: float) -> None:
        """Let no more than this through, either way."""
        shape = ("root", "tbf", "rate", f"{mbit_s:g}mbit", "burst", BURST, "latency", f"{QUEUE_MS}ms")
        _do("tc", "qdisc", "add", "dev", self._near, *shape)
        self._inside("tc", "qdisc", "add", "dev", self._far, *shape)

    @property
    def throttled(self) -> int:
        """How often a packet towards the board had to wait for the slow link."""
        shown = subprocess.run(
            ["tc", "-s", "qdisc", "show", "dev", self._near], capture_output=True, text=True, check=True
        )
        return int(re.findall(r"overlimits (\d+)", shown.stdout)[0])

    def cut(self) -> None:
        """Pull the cable: nothing gets through, and nobody is told."""
        self._inside("ip", "link", "set", self._far, "down")

    def fix(self) -> None:
        """Plug the cable in again."""
        self._inside("ip", "link", "set", self._far, "up")

    def second_way(self) -> Board:
        """Lay a second network over the cable; return the board as it is reached there."""
        subnet = OTHER_NETWORK.format(number=self._number)
        _do("ip", "address", "add", f"{subnet}.1/{PREFIX_BITS}", "dev", self._near)
        self._inside("ip", "address", "add", f"{subnet}.2/{PREFIX_BITS}", "dev", self._far)
        return replace(self.board, host=f"{subnet}.2")

    def swallow_second_way(self) -> None:
        """Let nothing through there any more, nor tell the board: no FIN, no RST; this machine has another address."""
        _do(
            "ip", "address", "delete", f"{OTHER_NETWORK.format(number=self._number)}.1/{PREFIX_BITS}", "dev", self._near
        )

    @property
    def open_on_second_way(self) -> int:
        """How many connections the board believes to be open there."""
        far = socket.inet_aton(OTHER_NETWORK.format(number=self._number) + ".1")
        remote = f"{int.from_bytes(far, sys.byteorder):08X}"  # as /proc/net/tcp writes it
        rows = [row.split() for row in self.board.run("cat", "/proc/net/tcp").splitlines()]
        return sum(row[2].startswith(remote) and row[3] == ESTABLISHED for row in rows)

    def power_off(self) -> None:
        """Take the power away: every process of the board is gone, and no last packet leaves it."""
        self.cut()
        if self._power:
            self._power.send_signal(signal.SIGKILL)
            self._power.wait()
            self._power = None

    def power_on(self) -> None:
        """Boot the board: its disk is as it was left."""
        self.fix()
        start = START.format(sshd=SSHD, config=shlex.quote(str(self.folder / "sshd_config")))
        own = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", start)
        with (self.folder / "log").open("ab") as log:
            self._power = subprocess.Popen(
                [*DIES_WITH_US, *self._nsenter(), *own], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _wait_until(lambda: "ok" in self.board.run("echo", "ok", check=False), f"{self.board.name} does not start")

    def close(self) -> None:
        """Take everything away."""
        if self._power:
            self._power.kill()
            self._power.wait()
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)  # never plugged in: none
        self._namespace.kill()
        self._namespace.wait()

    def _plug_in(self) -> None:
        outside = Path("/proc/self/ns/net").readlink()
        _wait_until(lambda: Path(f"/proc/{self._namespace.pid}/ns/net").readlink() != outside, "no network namespace")
        _do(
            "ip",
            "link",
            "add",
            self._near,
            "type",
            "veth",
            "peer",
            "name",
            self._far,
            "netns",
            str(self._namespace.pid),
        )
        _do("ip", "address", "add", f"{self._subnet}.1/{PREFIX_BITS}", "dev", self._near)
        _do("ip", "link", "set", self._near, "up")
        self._inside("ip", "address", "add", f"{self._subnet}.2/{PREFIX_BITS}", "dev", self._far)

    def _nsenter(self) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self._namespace.pid), "--net")

    def _inside(self, *command: str) -> None:
        _do(*self._nsenter(), *command)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _wait_until(true: Callable[[], bool], otherwise: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
