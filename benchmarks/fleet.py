"""Four boards on one search: how much faster, how near the truth, and what drift, a death and a kill do to it.

The boards are real agents with a runtime whose time is scripted (``tests/scripted_boards.py``): their speeds differ by
10 %, what they need besides the network's own work by 60 %, processes by 1 %; so a network's true latency over that of
the base model is known on each and over all. Over SSH, in network namespaces, where these can be had; else as processes
of this machine. One board measures alone first. Then all four do: one becomes slower by the minute, the host is killed
and the run resumed, and one board loses its power.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the boards are the tests'

from tests.command_line import Desk, read_until
from tests.lab import links
from tests.scripted_boards import Script, ScriptedBoard, drifting, over_boards, write_inventory

SCRIPTS = {
    "one": Script(speed=0.90, fixed_ms=0.4, noise=0.01), "two": Script(speed=1.10, fixed_ms=0.64, noise=0.01),
    "three": Script(speed=1.04, fixed_ms=0.5, noise=0.01), "four": Script(speed=0.96, fixed_ms=0.55, noise=0.01),
}  # fmt: skip
DRIFTS, DIES = "three", "four"
KILLED_AFTER, DEAD_AFTER = 0.4, 0.85
"""Shares of the trials."""
NETWORK = """
from torch import nn


class Net(nn.Module):
    '''Eight convolutions, so that a search has more networks than it tries.'''

    def __init__(self, num_classes):
        super().__init__()
        widths = [1] + [24] * 8
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = norm(conv(x)).relu()
        return self.fc(x.mean((2, 3)))
"""
SETTINGS = {
    "weights": "null", "base_training": "{epochs: 2}", "strategy": "random", "target": "latency=0.7x",
    "fine_tuning": "{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 20}",
}  # fmt: skip
Entry = Callable[[Script], Mapping[str, Any]]


@dataclass(frozen=True)
class Board:
    """A virtual board: its entry in the inventory by its script, and how it loses its power."""

    entry: Entry
    die: Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="of the search on all boards")
    parser.add_argument("--alone", type=int, default=20, help="trials of the search on one board")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--drift", type=float, default=0.01, help="by which one board becomes slower in a minute")
    parser.add_argument("--local", action="store_true", help="processes of this machine, though there could be links")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["PIPELINE_LOCK_DIR"] = name
        desk = Desk(Path(name) / "desk")
        desk.write("net.py", NETWORK)
        over_ssh = not asked.local and links.missing() is None
        print(f"four boards, {'over SSH' if over_ssh else 'as processes of this machine'}", flush=True)
        with (_linked if over_ssh else _local)(Path(name)) as boards:
            register(desk, boards, SCRIPTS, asked.seconds)
            desk.settings(trials=str(asked.alone), **SETTINGS)
            desk.done("run", "--config", "run.yaml", "--device", "one", "--runs", "alone")
            alone = rate(moments(next((desk.folder / "alone").glob("*/run.sqlite"))))
            print(f"one board alone: {alone:.2f} trials a minute", flush=True)
            moving = {name: drifting(s, asked.drift) if name == DRIFTS else s for name, s in SCRIPTS.items()}
            register(desk, boards, moving, asked.seconds)
            search(desk, boards, asked.trials)
            report(desk, alone, asked.trials)


def register(desk: Desk, boards: Mapping[str, Board], scripts: Mapping[str, Script], seconds: float) -> None:
    """Write the inventory."""
    measure = {
        "warmup_s": 0.1, "min_s": seconds, "max_s": seconds, "block_s": 0.025, "ci_rel": 0.02, "processes": 2,
        "max_background_cores": 64,
    }  # fmt: skip
    write_inventory(desk.folder, {n: board.entry(scripts[n]) for n, board in boards.items()}, measure, channel_step=8)


def search(desk: Desk, boards: Mapping[str, Board], trials: int) -> None:
    """Search on all boards: the host is killed and the run resumed, then one board dies."""
    desk.settings(trials=str(trials), **SETTINGS)
    run = desk.start_cold("run", "--config", "run.yaml", "--device", "group:fleet")
    read_until(run, f"trial {int(KILLED_AFTER * trials)}:")
    run.kill()
    run.communicate()
    resumed = desk.start_cold("run", "--resume", "latest")
    seen = read_until(resumed, f"trial {int(DEAD_AFTER * trials)}:")
    boards[DIES].die()
    seen += resumed.communicate(timeout=3600)[1]
    for line in seen.splitlines():
        if "quarantined" in line or "is lost" in line:
            print(f"  {line.strip()}")
    assert resumed.returncode == 0, seen


def report(desk: Desk, alone: float, trials: int) -> None:
    """Print what came of it."""
    (path,) = desk.runs.glob("*/run.sqlite")
    run = desk.done("runs", "show", "latest", "--json").json
    at = moments(path)
    killed = int(KILLED_AFTER * trials)
    quick = rate(at[:killed])
    print(f"four boards: {quick:.2f} trials a minute, {quick / alone / 4:.2f} of four times one board's")

    fresh = [trial for trial in run["trials"] if not trial["cached"] and trial["measurement"]]
    base = run["base"]["size_bytes"]
    truth = np.array([over_boards(SCRIPTS, trial["candidate"]["size_bytes"], base) for trial in fresh])
    ratios = [trial["measurement"]["ratio"] for trial in fresh]
    estimated = np.array([ratio["value"] for ratio in ratios])
    held = np.mean([ratio["low"] <= true <= ratio["high"] for ratio, true in zip(ratios, truth, strict=True)])
    own = [(trial["measurement"]["board"] or {}).get("ratio") for trial in fresh]
    raw = [(one["value"], true) for one, true in zip(own, truth, strict=True) if one]
    alone_error = _rms(*(np.array(part) for part in zip(*raw, strict=True)))
    print(f"estimated to true latency over all boards: Spearman {spearmanr(estimated, truth).statistic:.4f}, rms error "
          f"{_rms(estimated, truth):.2%}; as measured on one board {alone_error:.2%}; "
          f"{held:.0%} of the 95 % intervals hold the truth")  # fmt: skip

    failed = sum(trial["failure"] is not None for trial in run["trials"])
    twice = sum(n - 1 for n in Counter(trial["key"] for trial in fresh).values())
    on = Counter(key.partition(": ")[2] for key in keys(path) if key.startswith("board ") and " pass " not in key)
    again = sum(n - 1 for key, n in on.items() if not key.startswith("base process"))
    print(f"{len(run['trials'])} of {trials} trials, {failed} failed, {twice + again} measured twice")
    fleet = run["fleet"]
    for board in fleet["boards"]:
        effect = board["effect"]
        true = math.log(SCRIPTS[board["name"]].ratio(base // 2, base) / over_boards(SCRIPTS, base // 2, base))
        shown = "unknown" if effect is None else f"{100 * (effect['value'] - 1):+.1f} %"
        print(f"  {board['name']:<6} {board['status']:<12} {board['measurements']:>4} measurements, ratios there "
              f"{shown} (of a network of half the size truly {100 * math.expm1(true):+.1f} %)")  # fmt: skip
    print(f"components {json.dumps({k: round(v, 4) for k, v in fleet['components'].items()})}")


def moments(path: Path) -> list[float]:
    """Return when each trial that was measured was through, in seconds."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT at, json FROM trials ORDER BY number").fetchall()
    return [datetime.fromisoformat(at).timestamp() for at, text in rows if not json.loads(text)["cached"]]


def keys(path: Path) -> list[str]:
    """Return what measurements are kept by."""
    with sqlite3.connect(path) as database:
        return [key for (key,) in database.execute("SELECT key FROM measurements")]


def rate(at: list[float]) -> float:
    """Return trials a minute; a pause of half a minute is none of the search's."""
    gaps = [after - before for before, after in pairwise(at) if after - before < 30]
    return 60 * len(gaps) / sum(gaps)


def _rms(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.log(found / truth) ** 2)))


@contextmanager
def _local(folder: Path) -> Iterator[dict[str, Board]]:
    made = {name: ScriptedBoard(name, folder / name) for name in SCRIPTS}
    yield {name: Board(one.entry_with, one.die) for name, one in made.items()}


@contextmanager
def _linked(folder: Path) -> Iterator[dict[str, Board]]:
    made: dict[str, links.LinkedBoard] = {}
    try:
        for number, name in enumerate(SCRIPTS):
            (folder / name).mkdir()
            made[name] = links.LinkedBoard(name, number, folder / name)
        yield {name: Board(_entry_of(one), one.power_off) for name, one in made.items()}
    finally:
        for one in made.values():
            one.close()


def _entry_of(link: links.LinkedBoard) -> Entry:
    def entry(script: Script) -> Mapping[str, Any]:
        ssh = {"connect_timeout_s": 3.0, "retries": 2}
        line = link.board.entry(ssh=ssh, power=None, runtime="scripted", runtime_options=asdict(script))
        found: dict[str, Any] = json.loads(line.partition(": ")[2])
        return found

    return entry


if __name__ == "__main__":
    main()
