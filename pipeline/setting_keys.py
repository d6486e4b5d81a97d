"""Keys of settings: which are known at a place of a document, and which are old names that still count.

A renamed setting lists its names, the current one first: ``Field(..., validation_alias=AliasChoices("new", "old"))``.
"""

from __future__ import annotations

import logging
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

Where = tuple[str | int, ...]
"""The way from a document's root to one value: keys and list positions."""

_log = logging.getLogger(__name__)


def known_keys(model: Any, where: Where) -> list[str]:
    """Return the keys, by their current names, that are known at ``where`` in documents of ``model``."""
    for key in where:
        model = _inner(model, key)
    return [names[0] for names in _names(model)]


def current_name(model: Any, key: str) -> str:
    """Return what a key of a model is called now: itself, unless it is an old name.

    >>> from pydantic import Field
    >>> class Shape(BaseModel):
    ...     sides: int = Field(3, validation_alias=AliasChoices("sides", "edges"))
    >>> current_name(Shape, "edges"), current_name(Shape, "sides"), current_name(Shape, "corners")
    ('sides', 'sides', 'corners')
    """
    return next((names[0] for names in _names(model) if key in names[1:]), key)


def current_where(model: Any, where: Where) -> Where:
    """Return the way to a setting by current names."""
    named: list[str | int] = []
    for key in where:
        named.append(current_name(model, key) if isinstance(key, str) else key)
        model = _inner(model, key)
    return tuple(named)


def with_current_names(model: Any, data: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return ``data`` with its own keys by their current names; an old one stays where the current one is there too."""
    named = {key: current_name(model, key) if isinstance(key, str) else key for key in data}
    return {key if named[key] in data else named[key]: value for key, value in data.items()}


def old_keys(model: Any, data: object, where: Where = ()) -> Iterator[Where]:
    """Yield where old names stand in ``data``, a document of ``model``, from the outermost inwards."""
    for key, value in data.items() if isinstance(data, Mapping) else ():
        if isinstance(key, str) and current_name(model, key) != key:
            yield (*where, key)
        inner = _inner(model, key)
        if inner is not None:
            yield from old_keys(inner, value, (*where, key))


def say_old_keys(model: Any, data: object, source: Callable[[Where], str]) -> None:
    """Log one line for each old name in ``data``: its source, and what it is called now."""
    for where in old_keys(model, data):
        say_renamed(source(where), where, current_where(model, where))


def say_renamed(source: str, old: Where, new: Where) -> None:
    """Log that the setting ``old``, which stands in ``source``, is called ``new`` now."""
    old_path, new_path = (".".join(map(str, where)) for where in (old, new))
    _log.warning("%s: %s is called %s now; the old name still counts", source, old_path, new_path)


def _names(model: Any) -> Iterator[list[str]]:
    """Yield the names of each key of a model, the current one first."""
    for name, field in model.model_fields.items() if _is_model(model) else ():
        yield _names_of(name, field)


def _names_of(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [field.alias or name]


def _inner(model: Any, key: str | int) -> Any:
    """Return the type of what stands at ``key`` of a model, a mapping or a list; None where that is not known."""
    if _is_model(model):
        fields = model.model_fields.items()
        return next((_plain(field.annotation) for name, field in fields if key in _names_of(name, field)), None)
    return _plain(typing.get_args(model)[-1]) if typing.get_origin(model) in (dict, list, Mapping) else None


def _plain(annotation: Any) -> Any:
    """Return a type without what only narrows it: of Annotated[X, ...] and X | None, X."""
    while typing.get_origin(annotation) in (Annotated, Union, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
