"""The real command line as a child process, in a folder of its own, with a network that takes seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from tests import forked

REPOSITORY = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from pipeline.cli import main; main()")
PATIENCE_S = 480.0
Started = subprocess.Popen[str] | forked.Running

NETWORK = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + x).relu()


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.block = Block(32)
        self.down = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.block(self.bn(self.stem(x)).relu())
        x = self.bn2(self.down(x)).relu()
        return self.fc(x.mean((2, 3)))


class Branching(Net):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Pair(Net):
    def forward(self, x):
        scores = super().forward(x)
        return scores, scores


class Maps(Net):
    def forward(self, x):
        return super().forward(x)[:, :, None]


class OneTooMany(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes + 1)


class OnlyLinear(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(x.flatten(1))
"""

INVENTORY = """
version: 1
defaults:
  measure: {warmup_s: 0, min_s: 0.02, max_s: 0.4, block_s: 0.01, ci_rel: 0.2, processes: 1, max_background_cores: 64}
  channel_step: 16
devices:
  local: {kind: local, power: null, agent: {dir: AGENT}}
"""

SETTINGS = """
model: net.py:Net
weights: net.pt
data: digits
trials: 4
threads: 1
precision: float32
training_precision: float32
strategy_options: {first_simulated_episodes: 200, simulated_episodes: 100, first_updates: 10, updates: 5}
evaluation: {batch_norm_images: 64, search_images: 100}
fine_tuning: {finalists: 1, finalist_epochs: 0.1, epochs: 0.2, min_steps: 2, verify_images: 20}
"""


FEW_CUTS = {"pruning": "{protect: [stem, down]}"}
"""Settings that leave one group to cut, five plans: a run measures four single cuts instead of ten."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that says what was wrong; everything else on standard error is progress."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


class Desk:
    """A user's folder: inventory.yaml, run.yaml, net.py and net.pt, and the runs that come of them."""

    def __init__(self, folder: Path, weights: Path | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.write("inventory.yaml", INVENTORY.replace("AGENT", str(folder / "agent")))
        self._settings = SETTINGS
        self.write("run.yaml", self._settings)
        self.write("net.py", NETWORK)
        if weights is not None:
            shutil.copy(weights, folder / "net.pt")

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def remove(self, name: str) -> None:
        """Remove a folder that may be there."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    @classmethod
    def there(cls, folder: Path) -> Self:
        """Return a folder as it is: nothing is written."""
        desk = cls.__new__(cls)
        desk.folder, desk._settings = folder, SETTINGS
        return desk

    def thoroughly(self, channel_step: int = 4) -> Desk:
        """Have runs measure in two processes, ten single cuts instead of four, and train two finalists."""
        inventory = (self.folder / "inventory.yaml").read_text()
        self.write(
            "inventory.yaml",
            inventory.replace("step: 16\n", f"step: {channel_step}\n").replace("processes: 1", "processes: 2"),
        )
        self._settings = SETTINGS.replace("finalists: 1", "finalists: 2")
        self.write("run.yaml", self._settings)
        return self

    def settings(self, name: str = "run.yaml", **changes: str) -> str:
        """Write settings with some lines of their own, another strategy's without the DQN's; return the file's name."""
        gone = {*changes, "strategy_options"} if "strategy" in changes else set(changes)
        kept = [line for line in self._settings.splitlines() if line.partition(":")[0] not in gone]
        self.write(name, "\n".join([*kept, *(f"{key}: {value}" for key, value in changes.items())]) + "\n")
        return name

    def start(self, *arguments: str) -> forked.Running:
        """Start a command that has its libraries already."""
        return forked.Running(arguments, self.folder, self._environment())

    def start_cold(self, *arguments: str, command: tuple[str, ...] = COMMAND, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a new interpreter, as a shell does: where how it begins or ends is what counts."""
        return subprocess.Popen(
            [*command, *arguments], cwd=self.folder, env=self._environment(), text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip

    def start_shell(self, line: str) -> Done:
        """Run a line as a shell does, to its end."""
        shell = subprocess.Popen(
            ["bash", "-c", line], cwd=self.folder, env=self._environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return finished(shell)

    def do(self, *arguments: str) -> Done:
        """Run a command to its end."""
        return Done(*forked.run(arguments, self.folder, self._environment(), PATIENCE_S))

    def cold(self, *arguments: str) -> Done:
        """Run a command to its end in a new interpreter, which shares nothing with another's: no order, no seed."""
        return finished(self.start_cold(*arguments))

    def _environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
        return {**os.environ, "PYTHONPATH": str(REPOSITORY), **own}

    def done(self, *arguments: str) -> Done:
        """Run a command that has to succeed."""
        result = self.do(*arguments)
        assert result.code == 0, result.err + result.out
        return result

    def begin(self, *arguments: str) -> forked.Running:
        """Start a run and read its progress until the second trial is through."""
        run = self.start("run", "--config", "run.yaml", *arguments)
        read_until(run, "trial 1:")
        return run


def finished(process: Started) -> Done:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end: {out} {err}") from None
    assert process.returncode is not None
    return Done(process.returncode, out, err)


def read_until(process: Started, words: str) -> str:
    """Read standard error up to the line with ``words``; fail if the process ends before."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"ended without {words!r}: {seen}")


def agents(process: Started, at: str = "--dir") -> list[psutil.Process]:
    """The process's children that are agents, or are ``at`` an agent's work."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if at in _words(child)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return true()
