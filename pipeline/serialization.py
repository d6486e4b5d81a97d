"""Serialization: records to JSON and back without loss; nan and infinity are refused."""

from __future__ import annotations

import json
import math
import re
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from pipeline.errors import first_line

T = TypeVar("T")

DEEPEST = 100
"""Levels of JSON that is read; what this program writes has ten."""
_BEYOND, _DIGITS = 2**63, 40
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape of half a character, which two of make one."""


def dump(record: object) -> dict[str, Any]:
    """Return a record as plain JSON values.

    Raises:
        ValueError: a field holds something of another type than it declares.

    >>> from pipeline.records import PruningPlan
    >>> dump(PruningPlan(levels=(0, 50)))
    {'levels': [0, 50], 'criterion': 'l1', 'zeros': []}
    """
    try:
        plain: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json", warnings="error")
    except PydanticSerializationError as error:
        raise ValueError(f"a {type(record).__name__} holds what it must not: {error}") from error
    return plain


def load(kind: type[T], plain: object) -> T:
    """Return the record of type ``kind`` that ``dump`` made ``plain`` of.

    Raises:
        ValueError: ``plain`` is no such record.

    >>> from pipeline.records import PruningPlan
    >>> load(PruningPlan, {"levels": [0, 50]})
    PruningPlan(levels=(0, 50), criterion='l1', zeros=())
    """
    record: T = _adapter(kind).validate_python(plain)
    return record


def to_text(value: object, *, indent: int | None = None) -> str:
    """Return a record, or plain values, as JSON text.

    Raises:
        ValueError: it holds nan or infinity, for which JSON has no word, or something that is no JSON.

    >>> to_text({"levels": (0, 25)})
    '{"levels": [0, 25]}'
    """
    plain = dump(value) if is_dataclass(value) and not isinstance(value, type) else value
    try:
        return json.dumps(plain, allow_nan=False, ensure_ascii=False, indent=indent)
    except TypeError as error:
        raise ValueError(str(error)) from error


def from_text(text: object) -> Any:
    """Return the plain values of JSON text.

    Raises:
        ValueError: it is no JSON, no UTF-8, nested so deeply that nobody can have meant it, or one of its numbers is
            infinite or needs more than 64 bits.

    >>> from_text('{"levels": [0, 25]}')
    {'levels': [0, 25]}
    """
    if not isinstance(text, (str, bytes)):  # a damaged database gives whatever its columns hold
        raise ValueError(f"it is no text, but {type(text).__name__}")
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_within_64_bits)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _require_shallow(value)
    if _SURROGATE.search(text if isinstance(text, str) else text.decode("utf-8")):
        json.dumps(value, ensure_ascii=False).encode()  # half a character is an error here, not where it is printed
    return value


def problem(error: ValueError) -> str:
    """Return what ``load`` or ``from_text`` found wrong and where, on one line."""
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is no number that can be computed with")
    return value


def _within_64_bits(digits: str) -> int:
    value = int(digits) if len(digits) <= _DIGITS else _BEYOND
    if not -_BEYOND <= value < _BEYOND:
        raise ValueError(f"the number {digits[:40]} needs more than 64 bits")
    return value


def _require_shallow(value: object) -> None:
    """Raise ValueError where JSON is nested more deeply than whoever reads it could follow."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _inside(outer: Any) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _cached_adapter(kind)


@cache
def _cached_adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds."""
    return TypeAdapter(kind)
