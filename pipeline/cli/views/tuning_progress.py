"""Progress of a tuning: one line for each run, and the stage of the current one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.status import Status
from rich.text import Text

from pipeline.cli.console import err
from pipeline.durations import say_duration
from pipeline.events import Event, Stage, StageProgress, Waiting


@dataclass
class RunLines:
    """Numbers the runs, says where the one under way is, and when the last one will end."""

    total: int
    """Runs there will be, at most."""
    _number: int = 0
    _seconds: list[float] = field(default_factory=list)
    _words: str = ""
    _stage: str = ""
    _of: int | None = None
    _status: Status = field(default_factory=lambda: err.status(""))

    def begin(self, words: str) -> None:
        """Begin a run that ``words`` describe."""
        self._number += 1
        self._words, self._stage = words, ""
        self._status.start()
        self._show("")

    def listen(self, event: Event) -> None:
        """Show what the run under way says, as far as one line has room for it."""
        match event:
            case Stage(name, total):
                self._stage, self._of = name, total
                self._show("")
            case StageProgress(done, _):
                self._show(f" {done}/{self._of}" if self._of else "")
            case Waiting(holder):
                self._show(f", waiting: the board is held by {holder}")

    def end(self, words: str, seconds: float | None) -> None:
        """Say what came of the run; ``seconds`` is None where that was known from before."""
        self._status.stop()
        took = "known"
        if seconds is not None:
            self._seconds.append(seconds)
            took = f"{say_duration(seconds)}{self._expected_end()}"
        err.print(f"run {self._number} of {self.total}  {self._words}  {words}  ({took})", markup=False)

    def stop(self) -> None:
        """Leave nothing of the line behind."""
        self._status.stop()

    def _show(self, step: str) -> None:
        words = f"run {self._number} of {self.total}  {self._words}  {self._stage}{step}"
        self._status.update(Text(words))  # a str would be read as markup

    def _expected_end(self) -> str:
        left = self.total - self._number
        return f", {left} more: {expected(self._seconds, left)}" if left else ""


def expected(seconds: list[float], left: int, now: Callable[[], datetime] = datetime.now) -> str:
    """Return when so many more runs will be over, if they take as long as those before.

    >>> expected([60.0, 120.0], 2, lambda: datetime(2026, 1, 1, 12))
    'until about 12:03'
    """
    end = now() + timedelta(seconds=sum(seconds) / len(seconds) * left)
    return f"until about {end:%H:%M}" if end.date() == now().date() else f"until about {end:%d %b %H:%M}"
