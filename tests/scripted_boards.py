"""Boards whose time is scripted: real agents, real answers, and a runtime that takes the time that it is told.

How long a network takes is known of each board, so what is said of them can be held against the truth. Each is an agent
of its own on this machine, behind a python of its own; where network namespaces can be had, over SSH as well.
"""

from __future__ import annotations

import contextlib
import json
import math
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

RUNTIME = '''
"""onnxruntime's answers in a scripted time: that of a network goes by its file's size."""


import os
import random
import time

from device_agents.runtimes import null, onnxruntime

LOADS = "onnx"
ONNX_LIMITS = {"1.0": (17, 8)}
_SCRIPT = ("speed", "fixed_ms", "ms_a_kb", "noise", "drift_a_minute", "since")


def installed():
    return null.installed()


def version():
    return null.version()


def load(path, options, seed):
    script = {name: options[name] for name in _SCRIPT}
    return Model(path, {name: value for name, value in options.items() if name not in _SCRIPT}, seed, **script)


class Model:
    inputs = [("input", [1], "float32")]
    batch = 1
    about = {}

    def __init__(self, path, options, seed, speed, fixed_ms, ms_a_kb, noise, drift_a_minute, since):
        self._answers = lambda: onnxruntime.load(path, options, seed)
        drift = 1 + drift_a_minute * max(0.0, time.time() - since) / 60 if since else 1.0
        own = random.SystemRandom().gauss(1.0, noise)
        self._seconds = speed * (fixed_ms + drift * ms_a_kb * os.path.getsize(path) / 1e3) / 1e3 * own

    def step(self):
        until = time.perf_counter() + self._seconds
        time.sleep(max(0.0, self._seconds - 2e-4))
        while time.perf_counter() < until:
            pass

    def finite(self):
        return True

    def outputs(self, values, shape):
        return self._answers().outputs(values, shape)
'''
"""A sleep overshoots by a tenth of a millisecond: the last two of it are waited for."""

PYTHON = """#!/bin/sh
folder=$(cd "$(dirname "$0")" && pwd)
[ -e "$folder/dead" ] && exit 1
export PIPELINE_LOCK_DIR="$folder/lock"
exec {python} "$@"
"""


@dataclass(frozen=True)
class Script:
    """How fast a board is: speed × (fixed + drift × time by size) × noise of the process."""

    speed: float = 1.0
    fixed_ms: float = 0.5
    ms_a_kb: float = 0.013
    noise: float = 0.0
    drift_a_minute: float = 0.0
    since: float = 0.0
    """Unix time at which the drift begins; 0: never."""

    def ratio(self, size_bytes: int, base_bytes: int) -> float:
        """The true latency ratio of a network to the base model on this board, before it drifts."""
        return (self.fixed_ms + self.ms_a_kb * size_bytes / 1e3) / (self.fixed_ms + self.ms_a_kb * base_bytes / 1e3)


@dataclass
class ScriptedBoard:
    """One board: an agent of this machine whose python, folder and lock are its own."""

    name: str
    folder: Path
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        (self.folder / "lock").mkdir(parents=True)
        self._python = self.folder / "python"
        self._python.write_text(PYTHON.format(python=sys.executable))
        self._python.chmod(self._python.stat().st_mode | stat.S_IXUSR)

    @property
    def entry(self) -> dict[str, Any]:
        """What the inventory says of it."""
        return self.entry_with(self.script)

    def entry_with(self, script: Script) -> dict[str, Any]:
        """What it says of it with another script."""
        agent = {"dir": str(self.folder / "agent"), "python": str(self._python)}
        return {"kind": "local", "power": None, "agent": agent, "runtime": "scripted",
                "runtime_options": asdict(script)}  # fmt: skip

    def die(self) -> None:
        """End its agents, and let no other begin."""
        (self.folder / "dead").touch()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder / "agent") in process.cmdline():
                    process.kill()

    def revive(self) -> None:
        """Let agents begin again."""
        (self.folder / "dead").unlink()


def write_inventory(
    folder: Path, boards: Mapping[str, Mapping[str, Any]], measure: Mapping[str, Any], **more: Any
) -> None:
    """Write an inventory with these boards and the group ``fleet`` of them all, and their runtime beside it."""
    plugins = folder / "plugins" / "runtimes"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "scripted.py").write_text(RUNTIME)
    whole = {
        "version": 1,
        "defaults": {"measure": dict(measure), **more},
        "devices": dict(boards),
        "groups": {"fleet": {"devices": list(boards)}},
    }
    (folder / "inventory.yaml").write_text(json.dumps(whole))  # JSON is YAML


def drifting(script: Script, a_minute: float) -> Script:
    """A board that becomes slower from now on."""
    return replace(script, drift_a_minute=a_minute, since=time.time())


def over_boards(scripts: Mapping[str, Script], size_bytes: int, base_bytes: int) -> float:
    """The true latency ratio over all boards: their geometric mean."""
    return math.exp(sum(math.log(one.ratio(size_bytes, base_bytes)) for one in scripts.values()) / len(scripts))
