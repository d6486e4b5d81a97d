"""What each fact of a run has to be: a stored run is a file like any other, and may be damaged or somebody else's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from pipeline import serialization
from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration
from pipeline.records import DeviceFacts, Figures, SearchSpace
from pipeline.store.device_usage import Usage

MOST_ROUNDS = 10_000


class _Fact(BaseModel):
    """A fact of several values; others may stand beside them."""

    model_config = ConfigDict(extra="allow")


class _Config(_Fact):
    data: StrictStr = ""
    model: StrictStr | None = None
    weights: StrictStr | None = None
    target: list[StrictStr] | StrictStr = ""
    rounds: StrictInt = Field(1, ge=1, le=MOST_ROUNDS)


class _Device(_Fact):
    name: StrictStr
    kind: StrictStr = ""


class _Input(_Fact):
    name: StrictStr
    shape: list[StrictInt]
    mean: list[StrictFloat | StrictInt]
    std: list[StrictFloat | StrictInt]


class _Splits(_Fact):
    checksum: StrictStr = ""
    test: StrictInt = 0


class _Tuning(_Fact):
    of: StrictStr
    settings: dict[str, StrictFloat | StrictInt]
    judged: StrictBool


class _Verified(_Fact):
    on_device: StrictFloat | StrictInt | None
    on_host: StrictFloat | StrictInt | None
    images: StrictInt


class _Rung(_Fact):
    weights: StrictStr
    validation_accuracy: StrictFloat | StrictInt


_KINDS: Mapping[str, Any] = {
    "base": Figures, "base_weights": StrictStr, "calibration": Calibration, "channel step": StrictInt,
    "chosen": StrictStr, "classes": list[StrictStr], "code": dict[str, StrictStr], "config": _Config, "device": _Device,
    "facts": DeviceFacts, "failure": StrictStr, "finished": StrictStr, "folder": StrictStr, "git": StrictStr,
    "input": _Input, "inventory": StrictStr, "modes": dict[str, Any], "recording": StrictStr, "rung": _Rung,
    "seconds": StrictFloat | StrictInt, "seed": StrictInt, "space": SearchSpace, "splits": _Splits,
    "spreads": dict[str, Spread],
    "started": StrictStr, "status": StrictStr, "tuning": _Tuning, "usage": Usage, "verified": _Verified,
    "versions": dict[str, StrictStr], "weights file": dict[str, StrictStr], "winner": StrictStr,
}  # fmt: skip
"""By the fact's name, less the round, the training or the file that it is of."""
_OF = re.compile(r" \d+$|(?<=^rung) .*$|(?<=^verified) .*$")


def require_kind(key: str, value: object) -> None:
    """Raise ValueError where a fact is not what facts of its name are; None is none yet, and unknown ones are free.

    >>> require_kind("winner 2", "r2t5")
    >>> require_kind("seconds", "long")
    Traceback (most recent call last):
    ValueError: float: Input should be a valid number
    """
    kind = _KINDS.get(_OF.sub("", key))
    if kind is not None and value is not None:
        try:
            _adapter(_OF.sub("", key)).validate_python(value)
        except ValidationError as error:
            raise ValueError(serialization.problem(error)) from error


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[name])
