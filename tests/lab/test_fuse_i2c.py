"""The served device file itself: what a killed server leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import fuse_i2c
from tests.lab.fuse_i2c import I2cFile

pytestmark = pytest.mark.lab

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.lab.fuse_i2c import I2cFile
I2cFile(Path(sys.argv[1]), {}).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def mounted(path: Path) -> bool:
    return f" {path} fuse " in Path("/proc/self/mounts").read_text()


def test_the_file_of_a_killed_server_goes_with_the_next_one(tmp_path: Path) -> None:
    if reason := fuse_i2c.missing():
        pytest.skip(reason)
    dead, alive = tmp_path / "dead", tmp_path / "alive"
    assert subprocess.run([sys.executable, "-c", KILLED, str(dead)], check=False).returncode == -signal.SIGKILL
    assert mounted(dead)

    with I2cFile(alive, {}), I2cFile(tmp_path / "another", {}):
        assert (mounted(dead), mounted(alive)) == (False, True)
    dead.unlink()
