"""Numeric settings of a run, by dotted path."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union

from pydantic import BaseModel, ValidationError

from pipeline import setting_keys
from pipeline.config import DEFAULT_STRATEGY, RunConfig
from pipeline.errors import ConfigError, nearest
from pipeline.search.strategy_plugin import OPTIONS, settings_class, strategy_settings

Number = int | float
Settings = Mapping[str, Number]
"""Values by dotted path, in the order in which they were asked for."""


_OLDER, _OPTIONS = "dqn", f"{OPTIONS}."


def current_path(path: str, strategy: str = DEFAULT_STRATEGY) -> str:
    """Return a setting's dotted path by current names, and say so where an old one was typed.

    Args:
        strategy: whose own settings ``strategy_options`` are, and ``dqn``, the older name of these.
    """
    typed = tuple(path.split("."))
    if typed[0] in (OPTIONS, _OLDER):
        current = (OPTIONS, *setting_keys.current_where(settings_class(strategy), typed[1:]))
    else:
        current = setting_keys.current_where(RunConfig, typed)
    if current != typed:
        setting_keys.say_renamed("--search", typed, current)
    return ".".join(map(str, current))


def kind_of(path: str, strategy: str = DEFAULT_STRATEGY) -> type[int] | type[float]:
    """Return whether a setting holds whole numbers or any.

    Args:
        path: what begins with ``strategy_options`` is one of the strategy's own.

    Raises:
        ConfigError: there is no such setting, or it is no number; names the nearest.

    >>> kind_of("reward.alpha"), kind_of("reward.lambda"), kind_of("trials")
    (<class 'float'>, <class 'float'>, <class 'int'>)
    """
    own = path.startswith(_OPTIONS)
    known = _own_leaves(strategy) if own else dict(_leaves(RunConfig))
    kind = known.get(path)
    if kind is not None:
        return kind
    section = path.rpartition(".")[0]
    numbers = [name for name, found in known.items() if found is not None]
    near = [name for name in numbers if name.rpartition(".")[0] == section] or numbers
    what = "is no number" if path in known else f"is no setting{nearest(path, numbers)}"
    whose = f" of strategy {strategy}" if own else ""
    raise ConfigError(f"--search: {path} {what}; numbers there{whose}: {', '.join(near) or 'none'}")


def changed(base: RunConfig, settings: Settings) -> RunConfig:
    """Return ``base`` with other values.

    Raises:
        ConfigError: a value does not fit its setting.
    """
    document = base.model_dump(by_alias=True)
    for path, value in settings.items():
        *sections, key = path.split(".")
        section = document
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    try:
        config = RunConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise ConfigError(f"--search {where}: {problem}, found {first['input']!r}") from error
    if any(path.startswith(_OPTIONS) for path in settings):
        strategy_settings(config)
    return config


def _own_leaves(strategy: str) -> dict[str, type[int] | type[float] | None]:
    own = settings_class(strategy)
    return {} if own is None else dict(_leaves(own, _OPTIONS))


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[int] | type[float] | None]]:
    """Yield every setting's dotted path and what kind of number it is; None: none."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        kinds = list(_kinds(field.annotation))
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if sections:
            yield from _leaves(sections[0], f"{path}.")
        else:
            yield path, float if float in kinds else int if int in kinds else None


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield what a value may be: the parts of a union, without what only narrows them."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation
