"""Events of a run; listeners decide how to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.records import Trial


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run begins; ``total`` steps, None where that is not known."""

    name: str
    total: int | None = None


@dataclass(frozen=True, slots=True)
class StageProgress:
    """The stage has come to ``done``; ``note`` says of what."""

    done: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial is through; ``replayed`` when it was known from before the run was resumed."""

    trial: Trial
    replayed: bool = False
    metric: str = "accuracy"
    """What the task calls the candidate's score."""


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence worth keeping."""

    text: str


@dataclass(frozen=True, slots=True)
class DeviceTelemetry:
    """Telemetry of the device while it measures."""

    stage: str
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody else measures on the board; ``holder`` says who, about once a second."""

    holder: str


@dataclass(frozen=True, slots=True)
class Working:
    """A worker is at something; ``what`` is empty where it is through with it."""

    worker: str
    what: str
    done: int = 0
    total: int | None = None
    note: str = ""


Event = Stage | StageProgress | Tried | Note | DeviceTelemetry | Waiting | Working
Listener = Callable[[Event], None]


def unheard(event: Event) -> None:
    """Hear an event and tell nobody."""
