"""Who hears what a run says where a test runs it in its own process."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.events import Event, Note, Stage, StageProgress, Tried


@dataclass
class Listener:
    """Keeps what a run says, and asks it to stop after the first step of one stage."""

    stop_in: str | None = None
    notes: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    steps: dict[str, int | None] = field(default_factory=dict)
    """Each stage → how many steps it was said to have."""
    tried: list[Tried] = field(default_factory=list)
    asked: bool = False
    """Whether the run is to stop."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, Stage):
            self.stages.append(event.name)
            self.steps[event.name] = event.total
        elif isinstance(event, Tried):
            self.tried.append(event)
        if isinstance(event, StageProgress | Tried) and self.stages and self.stages[-1] == self.stop_in:
            self.asked = True
