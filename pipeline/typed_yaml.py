"""YAML read into pydantic models, where every mistake is told with its file, its line and the nearest known key."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import UserError, nearest

Where = tuple[str | int, ...]
"""The way from a document's root to one value: keys and list positions."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file's content and the line on which each value stands."""

    path: Path | Traversable
    data: Mapping[str, Any]
    lines: Mapping[Where, int]
    error: type[UserError]
    """What a mistake in this file is raised as."""

    def mistake(self, where: Where, problem: str) -> UserError:
        """Return the error that says ``problem`` of the value at ``where``, to be raised."""
        known = next(self.lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self.lines)
        path = ".".join(map(str, where))
        return self.error(f"{self.path}:{known}: {path + ': ' if path else ''}{problem}")


def read(path: Path | Traversable, error: type[UserError]) -> Document:
    """Read one YAML file by the safe loader.

    Raises:
        UserError: of the class ``error``: unreadable, malformed, or a key that stands twice.
    """
    try:
        loader = yaml.SafeLoader(path.read_bytes())
        node = loader.get_single_node()
        data = loader.construct_document(node) if node else {}
    except OSError as e:
        raise error(f"{path}: cannot be read: {e.strerror}") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise error(f"{path}{at}: not YAML: {e.problem or e.context}") from e
    except (yaml.YAMLError, ValueError) as e:
        raise error(f"{path}: not YAML: {' '.join(str(e).split())}") from e
    if not isinstance(data, dict):
        raise error(f"{path}:1: expected `key: value` lines, found {_shown(data)}")
    lines: dict[Where, int] = {(): 1}
    document = Document(path, data, lines, error)
    for where, line in _walk(node, (), set()) if node else ():
        if where in lines:
            raise error(f"{path}:{line}: {'.'.join(map(str, where))}: stands twice, first in line {lines[where]}")
        lines[where] = line
    return document


def validate(document: Document, model: type[M]) -> M:
    """Return the document as ``model``.

    Raises:
        UserError: of the document's class: the first thing that does not fit, and how many more there are.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as e:
        errors = e.errors(include_url=False)
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise document.mistake(first["loc"], _problem(model, first) + more) from e


def _walk(node: yaml.Node, where: Where, seen: set[int]) -> Iterator[tuple[Where, int]]:
    """Yield each value's place and line; an aliased node is visited once, so that no file can make this explode."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value != "<<":
                yield (*where, key.value), key.start_mark.line + 1
                yield from _walk(value, (*where, key.value), seen)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield (*where, position), value.start_mark.line + 1
            yield from _walk(value, (*where, position), seen)


def _problem(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Return pydantic's complaint in our words."""
    if error["type"] == "extra_forbidden":
        known = sorted(_keys_at(model, error["loc"][:-1]))
        return f"unknown key{nearest(str(error['loc'][-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return "is missing"
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    return f"{text}, found {_shown(error['input'])}"


def _keys_at(model: Any, where: Where) -> list[str]:
    """Return the keys that are known at ``where`` in documents of ``model``."""
    for step in where:
        model = model.model_fields[str(step)].annotation if _is_model(model) else typing.get_args(model)[-1]
        while typing.get_origin(model) not in (None, dict, list):  # Annotated[X, ...] and X | None
            model = typing.get_args(model)[0]
    return list(model.model_fields) if _is_model(model) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _shown(value: object) -> str:
    """Return ``value`` short enough for a message."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
