"""The answer to ``meter``: a sensor's raw samples idle and under load, or that there is no sensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from pipeline.answers.answer import Answer, Record
from pipeline.answers.board import State
from pipeline.answers.fields import Count, Floats, Moment, Moments, SensorWatts, Word, as_seconds, asked, numbers
from pipeline.answers.measured import SAMPLES_A_SECOND, require_in_order
from pipeline.answers.size_limits import SizeLimits

_SLACK_S = 30.0


class About(Record):
    """Which sensor it is, and what it sees."""

    source: Word
    scope: Literal["module", "board", "package"]
    interval_s: float = Field(ge=0, le=3600)
    estimated: bool = False


def _volts(value: object) -> Floats | None:
    """Return the supply's volts; None where the sensor does not know them, or not all of them."""
    if value is None or (isinstance(value, list) and None in value):
        return None
    return numbers(value, -1000, 1000)


_VOLTS = {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}}]}


class Phase(Record):
    """What the sensor gave in one phase."""

    start_s: Moment
    end_s: Moment
    t_s: Moments
    w: SensorWatts
    v: Annotated[Floats | None, PlainValidator(_volts), WithJsonSchema(_VOLTS)] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_in_order(self.t_s, len(self.w))
        if self.v is not None and len(self.v) != len(self.t_s):
            raise ValueError("samples are not one voltage a time")
        if self.start_s >= self.end_s or (len(self.t_s) and not self._holds_all()):
            raise ValueError("samples lie outside of their own window")
        return self

    def _holds_all(self) -> bool:
        return bool(np.all((self.t_s >= self.start_s) & (self.t_s <= self.end_s)))


class Metered(Answer):
    """A meter's test."""

    verb: ClassVar[str] = "meter"

    about: About | None = None
    rest: Phase | None = None
    load: Phase | None = None
    dropped: Count = 0
    """Readings that could not be true."""
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    before: State = State()
    during: State = State()
    after: State = State()

    @classmethod
    def size_limits(cls, asked: Mapping[str, Any]) -> SizeLimits:
        """See ``Answer.size_limits``."""
        samples = math.ceil(SAMPLES_A_SECOND * (2 * (as_seconds(asked, "seconds") or 0.0) + _SLACK_S))
        values = min(4_000_000, 3 * samples)
        return SizeLimits(size=256 * 1024 + 24 * values, values=4000 + values, containers=400)

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        parts = (self.about, self.rest, self.load)
        if any(part is None for part in parts) != all(part is None for part in parts):
            raise ValueError("it lacks what it should hold: about, rest and load come all three or not at all")
        if self.rest and self.load and self.load.start_s < self.rest.end_s:
            raise ValueError("the load began before the rest had ended")
        threads = asked(info, "threads")
        if threads is not None and threads != self.threads:
            raise ValueError(f"{self.threads} threads were busy, {threads} were asked for")
        return self
