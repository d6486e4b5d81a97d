"""Answers about the board: facts, telemetry, lock and progress."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.answers.answer import Answer, Record
from pipeline.answers.fields import (
    Bits,
    Celsius,
    Cores,
    Count,
    Load,
    Megabytes,
    Megahertz,
    Scalar,
    Seconds,
    Text,
    Word,
    asked,
)


class Hello(Answer):
    """The answer to ``hello``: the fields of ``DeviceFacts``."""

    verb: ClassVar[str] = "hello"

    agent_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    python: Word
    machine: Word
    board: Word
    kernel: Word
    cpu: Word
    cores: Cores
    simd: Word
    memory_mb: Megabytes
    disk_free_mb: Megabytes
    runtimes: dict[Word, Word] = Field(max_length=100)
    sensors: dict[Word, Text] = Field(max_length=100)
    broken_runtimes: dict[Word, Text] = Field(default={}, max_length=100)
    governor: Word | None = None
    clock_mhz: Megahertz | None = None
    temperature_c: Celsius | None = None
    throttled: Bits | None = None
    user: Word | None = None
    groups: list[Word] = Field(default=[], max_length=1000)
    holder: Text | None = None
    governors: Text | None = None
    helper: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    system: Word | None = None
    libc: Word | None = None
    l4t: Word | None = None
    swap_mb: Megabytes | None = None
    vnni: bool | None = None


class State(Record):
    """The board's telemetry at one moment; None where it does not say."""

    temperature_c: Celsius | None = None
    clock_mhz: Megahertz | None = None
    governor: Word | None = None
    load: Load | None = None
    cpu_busy_s: Seconds | None = None
    cpu_steal_s: Seconds | None = None
    memory_free_mb: Megabytes | None = None
    disk_free_mb: Megabytes | None = None
    throttled: Bits | None = None


class Telemetry(State, Answer):
    """The answer to ``telemetry``."""

    verb: ClassVar[str] = "telemetry"


class Held(Answer):
    """The answer to ``hold``: the power modes that were asked for, as they were set or refused."""

    verb: ClassVar[str] = "hold"

    applied: dict[Word, Scalar] = Field(default={}, max_length=100)
    refused: dict[Word, Text] = Field(default={}, max_length=100)

    @field_validator("applied", "refused")
    @classmethod
    def _asked_for(cls, modes: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        wanted = asked(info, "modes")
        if wanted is not None and (others := modes.keys() - wanted.keys()):
            raise ValueError(f"names modes that were not requested: {', '.join(sorted(others)[:3])}")
        return modes


class Progress(Record):
    """What goes on while a request takes its time."""

    event: Literal["progress"]
    stage: Word
    seconds: Seconds
    temperature_c: Celsius | None = None


class Holder(Record):
    """Who has the board."""

    owner: Word
    pid: Count
    age_s: float = Field(ge=-1e10, le=1e10)
    expires_s: float | None = Field(default=None, ge=-1e10, le=1e10)
    words: Text


class Waiting(Record):
    """Somebody else has the board; about once a second."""

    event: Literal["waiting"]
    holder: Holder
