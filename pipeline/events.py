"""What a run says while it runs; whoever listens decides how to show it."""

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
class Step:
    """The stage has come to ``done``; ``note`` says of what."""

    done: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial is through; ``replayed`` when it was known from before the run was resumed."""

    trial: Trial
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence worth keeping."""

    text: str


@dataclass(frozen=True, slots=True)
class DeviceNews:
    """How the device feels while it measures."""

    stage: str
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody else measures on the board; ``holder`` says who, about once a second."""

    holder: str


Event = Stage | Step | Tried | Note | DeviceNews | Waiting
Listener = Callable[[Event], None]
