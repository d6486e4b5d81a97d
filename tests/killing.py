"""A run that is killed at any moment, resumed and killed again, and what its board was asked meanwhile."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.devices.recording import FILE_NAME
from tests.command_line import FEW_CUTS, Desk
from tests.recordings import told

SETTINGS = {
    **FEW_CUTS, "trials": "4", "target": "size=0.9x", "weights": "null", "checkpoint_s": "0.2",
    "base_training": "{epochs: 4}", "fine_tuning": "{finalists: 2, finalist_epochs: 0.5, epochs: 0.5, min_steps: 30}",
}  # fmt: skip
"""A run with every stage: it trains its base model, measures, searches and fine-tunes."""


@dataclass(frozen=True)
class Kill:
    """One kill, and how far the run had come."""

    after_s: float
    stage: str
    """The last line of progress; empty: it had said nothing yet."""
    run: bool
    """Whether its folder was there."""


@dataclass(frozen=True)
class Answers:
    """What the board of a run was asked, as the recording has it, against what the run needed."""

    answered: int
    """Measurements and verifications that the board answered."""
    needed: int
    """Those that the run's store holds, repetitions for doubts included."""

    @property
    def twice(self) -> int:
        return self.answered - self.needed


def begin_or_resume(desk: Desk, moment: Callable[[str], float], *, cold: bool = True) -> Kill | None:
    """Start the run, or go on with it, and kill it; None: it ended by itself before.

    Args:
        moment: hears each line of progress, and says after how many seconds more the run is killed; infinity: not yet.
        cold: whether it is a new interpreter, which has no libraries yet and another order of sets than the last one.
    """
    there = desk.runs.exists() and any(folder.name[0] != "." for folder in desk.runs.iterdir())
    verb = ["run", "--resume", "latest"] if there else ["run", "--config", "run.yaml", "--record"]
    process = desk.start_cold(*verb) if cold else desk.start(*verb)
    stage, seconds = "", moment("")
    timer: threading.Timer | None = None
    assert process.stderr is not None
    if seconds != float("inf"):
        timer = threading.Timer(seconds, process.kill)
        timer.start()
    for line in process.stderr:
        stage = line.strip() or stage
        if timer is None and (seconds := moment(line)) != float("inf"):
            timer = threading.Timer(seconds, process.kill)
            timer.start()
    out = process.communicate()[0]
    if timer is not None:
        timer.cancel()
    if process.returncode == 2 and "is finished; `pipeline pull" in stage:  # killed after its end
        return None
    if process.returncode == -signal.SIGKILL:
        return Kill(seconds, stage, there or desk.runs.exists())
    assert process.returncode == 0, (stage, out)
    return None


def answers(desk: Desk) -> Answers:
    """Count what the only run asked its board and what it needed."""
    (folder,) = (folder for folder in desk.runs.iterdir() if folder.name[0] != ".")
    content = gzip.decompress(_whole(folder / FILE_NAME))
    asked = [json.loads(line)["verb"] for line in content.splitlines()[1:]]
    with sqlite3.connect(folder / "run.sqlite") as database:
        rows = database.execute("SELECT key, json FROM measurements").fetchall()
        verified = database.execute("SELECT count(*) FROM facts WHERE key LIKE 'verified %'").fetchone()[0]
    database.close()
    whole = {text for key, text in rows if " pass " not in key}  # one network's stands under several names
    measured = sum(json.loads(text)["conditions"].get("times_measured", 1) for text in whole)
    return Answers(sum(verb in ("measure", "verify") for verb in asked), measured + verified)


def _whole(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def uninterrupted(desk: Desk) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the killed run came to, and what one comes to that nobody kills and whose board answers alike."""
    (run,) = desk.done("runs", "list", "--json").json
    killed = desk.done("runs", "show", run["id"], "--json").json
    recording = desk.runs / run["id"] / FILE_NAME
    desk.write(
        "replay.yaml", f"version: 1\ndevices:\n  tape: {{kind: replay, recording: {recording}, channel_step: 4}}\n"
    )
    verb = ["run", "--config", "run.yaml", "--inventory", "replay.yaml", "--device", "tape", "--runs", "replayed"]
    whole = desk.cold(*verb, "--json")
    assert whole.code == 0, whole.err
    return told(killed), told(whole.json)
