"""Records to JSON and back, without loss: what is written can be read, and a figure that is no number is refused."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

T = TypeVar("T")


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


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _cached_adapter(kind)


@cache
def _cached_adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds."""
    return TypeAdapter(kind)
