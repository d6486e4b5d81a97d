"""A board whose programs find a chip at /dev/i2c-1: they have a /dev of their own, and so has the sshd in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.records import PowerSettings
from tests.conftest import SSHD, Sshd
from tests.lab import fuse_i2c
from tests.lab.board import DIES_WITH_US
from tests.lab.fuse_i2c import Chip, I2cFile

ADDRESS = 0x40
INA219 = PowerSettings(backend="ina219", options={"bus": 1, "address": ADDRESS, "shunt_ohms": 0.1})

_PRIVATE_DEV = """
set -e
mount -t tmpfs -o mode=755 board "$1"
for node in null zero full random urandom tty; do cp -a /dev/$node "$1"; done
ln -s /proc/self/fd "$1/fd"
mkdir "$1/shm"
touch "$1/i2c-1"
mount --bind "$2" "$1/i2c-1"
mount --move "$1" /dev
shift 2
exec "$@"
"""
"""Runs a command that has a /dev of its own, with an i2c-1 in it; gone with the command."""


def on_board(folder: Path, bus: I2cFile, *program: str) -> list[str]:
    """Return the command that runs a program where ``bus`` is /dev/i2c-1; ``folder`` is written to."""
    dev = folder / "dev"
    dev.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-c", _PRIVATE_DEV, "sh", str(dev), str(bus.path), *program]


@contextlib.contextmanager
def i2c_board(folder: Path, chip: Chip, environment: Mapping[str, str]) -> Iterator[Sshd]:
    """Run an sshd on a board with ``chip``; skips where that cannot be.

    Args:
        environment: what everybody who logs in finds set, besides the folder of the board's lock.
    """
    if reason := fuse_i2c.missing():
        pytest.skip(reason)
    if SSHD is None:
        pytest.skip("OpenSSH's sshd is not installed: apt-get install openssh-server")
    with I2cFile(folder / "i2c-1", {ADDRESS: chip}) as bus:
        server = Sshd(folder / "sshd")
        server.program = [*DIES_WITH_US, *on_board(folder, bus, SSHD)]
        server.environment = {"PIPELINE_LOCK_DIR": str(folder), **environment}
        server.start()
        try:
            yield server
        finally:
            server.stop()
