"""Live view of a run: a display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipeline.cli.console import err
from pipeline.events import DeviceTelemetry, Event, Listener, Note, Stage, StageProgress, Tried, Waiting, Working
from pipeline.records import Trial


@contextmanager
def view() -> Iterator[Listener]:
    """Give a listener that shows events on standard error."""
    if err.is_terminal and not err.is_dumb_terminal:
        shown = LiveView()
        with Live(shown, console=err, refresh_per_second=8, transient=True):
            yield shown.listen
        shown.finish()
    else:
        yield PlainLines().listen


class LiveView:
    """Progress and ETA of the stage, best so far, last measurement, the device's temperature."""

    def __init__(self) -> None:
        """Begin with nothing to show."""
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(30), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=err,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._stage = ""
        self._began = time.monotonic()
        self._best: Trial | None = None
        self._last: Trial | None = None
        self._metric = "accuracy"
        self._temperature_c: float | None = None
        self._workers: dict[str, Working] = {}

    def __rich__(self) -> Group:
        """Return what is shown now."""
        lines = [Text(f"  {describe_work(work)}", style="dim") for _, work in sorted(self._workers.items())]
        return Group(self._progress, *lines, Text(self._status(), style="dim"))

    def listen(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Stage(name, total):
                self.finish()
                self._stage, self._began = name, time.monotonic()
                self._task = self._progress.add_task(name, total=total, note="")
            case StageProgress(done, note) if self._task is not None:
                self._progress.update(self._task, completed=done, note=note)
            case Tried(trial, _, metric) if self._task is not None:
                self._progress.advance(self._task)
                self._metric = metric
                self._take(trial)
            case Note(text):
                err.print(f"  {text}", markup=False)
            case DeviceTelemetry(_, temperature_c):
                self._temperature_c = temperature_c or self._temperature_c
            case Waiting(holder) if self._task is not None:
                self._progress.update(self._task, note=f"waiting: the board is held by {holder}")
            case Working():
                note_work(self._workers, event)

    def finish(self) -> None:
        """Leave a line of the stage that is over."""
        if self._task is not None:
            line = Text("✓ ", style="green").append(self._stage, style="not bold default")
            err.print(line.append(f" {time.monotonic() - self._began:.1f} s", style="dim"))
            self._progress.remove_task(self._task)
            self._task = None

    def _take(self, trial: Trial) -> None:
        self._last = trial
        if trial.feasible and (self._best is None or _reward(trial) > _reward(self._best)):
            self._best = trial

    def _status(self) -> str:
        parts = []
        if self._last:
            parts.append(f"last: {describe(self._last, self._metric)}")
        if self._best:
            parts.append(f"best: {describe(self._best, self._metric)}")
        if self._temperature_c is not None:
            parts.append(f"device {self._temperature_c:.0f} °C")
        return "  " + "   ·   ".join(parts)


def _reward(trial: Trial) -> float:
    return -math.inf if trial.reward is None else trial.reward


class PlainLines:
    """One line a stage and a trial; long trainings say where they are every ten seconds."""

    _EVERY_S = 10.0

    def __init__(self) -> None:
        """Begin with no stage."""
        self._stage = ""
        self._total: int | None = None
        self._said = time.monotonic()
        self._waiting = False
        self._workers: dict[str, Working] = {}

    def listen(self, event: Event) -> None:
        """Print an event, if it is worth a line."""
        match event:
            case Stage(name, total):
                self._stage, self._total, self._said = name, total, time.monotonic()
                err.print(f"{name}" + (f" ({total})" if total else ""), markup=False)
            case StageProgress(done, note):
                if time.monotonic() - self._said >= self._EVERY_S:
                    self._said = time.monotonic()
                    err.print(f"  {done}{f'/{self._total}' if self._total else ''} {note}", markup=False)
            case Tried(trial, replayed, metric):
                err.print(
                    f"  trial {trial.index}: {describe(trial, metric)}{' (known)' if replayed else ''}", markup=False
                )
            case Note(text):
                err.print(f"  {text}", markup=False)
            case Waiting(holder):
                if not self._waiting or time.monotonic() - self._said >= self._EVERY_S:
                    self._waiting, self._said = True, time.monotonic()
                    err.print(f"  waiting: the board is held by {holder}", markup=False)
            case Working():
                note_work(self._workers, event)
                if event.total and time.monotonic() - self._said >= self._EVERY_S:
                    self._said = time.monotonic()
                    for _, work in sorted(self._workers.items()):
                        err.print(f"  {describe_work(work)}", markup=False)
            case DeviceTelemetry():
                pass


def note_work(workers: dict[str, Working], event: Working) -> None:
    """Keep what each worker does; one that does nothing is not among them."""
    if event.what:
        workers[event.worker] = event
    else:
        workers.pop(event.worker, None)


def describe_work(work: Working) -> str:
    """Return what a worker does, and how far it is.

    >>> describe_work(Working("worker 2", "Fine-tune finalist 7", 40, 150, "loss 0.210"))
    'worker 2: Fine-tune finalist 7, 40/150 loss 0.210'
    """
    far = f", {work.done}/{work.total} {work.note}".rstrip() if work.total else ""
    return f"{work.worker}: {work.what}{far}"


def describe(trial: Trial, metric: str = "accuracy") -> str:
    """Return a trial in a few words."""
    if trial.failure is not None or trial.candidate is None or trial.measurement is None:
        put_aside = (trial.failure or "").startswith("quarantined")
        return str(trial.failure) if put_aside else f"failed: {trial.failure}"
    ratio = trial.measurement.ratio
    latency = f"{ratio.value:.3f}× of base" if ratio else f"{trial.measurement.p50_ms.value:.3g} ms"
    reward = "" if trial.reward is None else f", reward {trial.reward:.3f}"
    doubts = f", in doubt: {' '.join(trial.measurement.flags)}" if trial.measurement.flags else ""
    verdict = "" if trial.feasible else ", misses the target"
    verdict += ", stopped early" if trial.measurement.early else ""
    board = trial.measurement.board
    where = "" if board is None or trial.cached else f" on {board.name}"
    asked = f"for {trial.condition}: " if trial.condition else ""
    return f"{asked}{metric} {trial.candidate.accuracy:.1%}, {latency}{where}{reward}{verdict}{doubts}"
