"""Fields of answers: type, unit and plausible range of each."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from pipeline.printable import printable

Floats = NDArray[np.float64]

LONGEST_S = 1e10
"""Three hundred years: no board's clock is beyond, and a span of such times still has microseconds as a float."""

Text = Annotated[str, Field(max_length=4000), AfterValidator(printable)]
Word = Annotated[str, Field(max_length=200), AfterValidator(printable)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Cores = Annotated[int, Field(ge=1, le=4096)]
Moment = Annotated[float, Field(ge=0, le=LONGEST_S)]
"""Seconds of the board's monotonic clock."""
Seconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
Milliseconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
Celsius = Annotated[float, Field(ge=-100, le=250)]
Megahertz = Annotated[float, Field(ge=0, le=100_000)]
Megabytes = Annotated[float, Field(ge=0, le=1e12)]
Load = Annotated[float, Field(ge=0, le=1e6)]
Bits = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{1,8}$")]
"""Raspberry Pi's throttling bits."""
Scalar = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | float | Word | None


def numbers(value: object, low: float, high: float) -> Floats:
    """Return a list of numbers as an array, each from ``low`` to ``high``; a long list takes 30 ns a value.

    Raises:
        ValueError: it is no such list.
    """
    if not isinstance(value, list) or not all(map(_is_numeric, set(map(type, value)))):
        raise ValueError("holds samples that are no numbers")
    try:
        found = np.frombuffer(array.array("d", value), np.float64)
    except OverflowError:
        raise ValueError("holds samples that no float can hold") from None
    if not ((found >= low) & (found <= high)).all():  # not-a-number is in no range
        raise ValueError(f"holds samples that are no numbers from {low:g} to {high:g}")
    return found


def _is_numeric(kind: type) -> bool:
    return issubclass(kind, float | int) and kind is not bool


def _range_of_numbers(low: float, high: float) -> Any:
    def check(value: object) -> Floats:
        return numbers(value, low, high)

    items = {"type": "number", "minimum": low, "maximum": high}
    return Annotated[Floats, PlainValidator(check), WithJsonSchema({"type": "array", "items": items})]


Moments = _range_of_numbers(0, LONGEST_S)
Watts = _range_of_numbers(0, 10_000)
SensorWatts = _range_of_numbers(-10_000, 10_000)
"""Of a sensor under test: wired the wrong way round, it shows less than nothing, and that is to be said."""


def asked(info: ValidationInfo, name: str) -> Any:
    """Return what the request said of ``name``; None where it did not, or where the request is not known."""
    context = info.context
    return context.get(name) if isinstance(context, Mapping) else None


def asked_s(info: ValidationInfo, name: str) -> float | None:
    """Return the seconds that the request gave for ``name``."""
    return as_seconds(info.context, name) if isinstance(info.context, Mapping) else None


def as_seconds(asked: Mapping[str, Any], name: str) -> float | None:
    """Return an argument in seconds; None where it is no number.

    >>> as_seconds({"max_s": 10}, "max_s"), as_seconds({}, "max_s")
    (10.0, None)
    """
    value = asked.get(name)
    return float(value) if isinstance(value, int | float) else None
