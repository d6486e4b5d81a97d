"""Who hears what a run says where a test runs it in its own process."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.events import Event, Note, Stage, StageProgress


@dataclass
class Listener:
    """Keeps what a run says, and asks it to stop after the first step of one stage."""

    stop_in: str | None = None
    notes: list[str] = field(default_factory=list)
    asked: bool = False
    """Whether the run is to stop."""
    _stage: str = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, Stage):
            self._stage = event.name
        elif isinstance(event, StageProgress) and self._stage == self.stop_in:
            self.asked = True
