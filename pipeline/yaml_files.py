"""YAML files as pydantic models; mistakes are reported with file, line and nearest known key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline import regular_file, setting_keys
from pipeline.errors import UserError, nearest
from pipeline.regular_file import SETTINGS_BYTES
from pipeline.setting_keys import Where

M = TypeVar("M", bound=BaseModel)

DEEPEST = 32
"""Levels of a document; what people write has five."""
MOST_VALUES = 100_000
"""Values of a document, those behind an alias counted wherever it stands: ten aliases of ten aliases of … explode."""


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file's content and the line on which each value stands."""

    path: Path | Traversable
    data: Mapping[str, Any]
    lines: Mapping[Where, int]
    error: type[UserError]
    """What a mistake in this file is raised as."""

    def source(self, where: Where) -> str:
        """Return the file, and the line of the value at ``where`` if it has one."""
        return f"{self.path}:{self.lines[where]}" if where in self.lines else str(self.path)

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
        loader = _Loader(_content(path))
        node = loader.get_single_node()
        if node:
            _require_few(node)
        data = loader.construct_document(node) if node else {}
    except OSError as e:
        raise error(f"{path}: cannot be read: {e.strerror}") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise error(f"{path}{at}: not YAML: {e.problem or e.context}") from e
    except (yaml.YAMLError, ValueError, OverflowError) as e:  # dates and numbers that Python has not
        raise error(f"{path}: not YAML: {' '.join(str(e).split())}") from e
    if not isinstance(data, dict):
        raise error(f"{path}:1: expected `key: value` lines, found {_shown(data)}")
    lines: dict[Where, int] = {(): 1}
    document = Document(path, data, lines, error)
    for where, line in _walk(node, (), set()) if node else ():
        if where in lines:
            raise error(f"{path}:{line}: {'.'.join(map(str, where))}: duplicate key, first in line {lines[where]}")
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


def say_old_keys(document: Document, model: type[BaseModel]) -> None:
    """Log one line for each old name of a setting that the document uses."""
    setting_keys.say_old_keys(model, document.data, document.source)


class _Loader(yaml.SafeLoader):
    """The safe loader, which gives up where a document is nested more deeply than anybody means."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._depth = 0

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Scan a bracket; the scanner looks ahead at many of them before anything is composed."""
        if self.flow_level >= DEEPEST:
            raise _too_deep(self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one value and all that it holds."""
        if self._depth > DEEPEST:
            raise _too_deep(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer; none needs more than 64 bits, and Python does not even write out some of them."""
        value = int(super().construct_yaml_int(node))
        if not -(2**63) <= value < 2**63:
            raise yaml.MarkedYAMLError(problem="a number of more than 64 bits", problem_mark=node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _too_deep(mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} levels deep", problem_mark=mark)


def _content(path: Path | Traversable) -> bytes:
    """Return a file's bytes; what ships with the program may lie in an archive."""
    return regular_file.read_bytes(path, SETTINGS_BYTES) if isinstance(path, Path) else path.read_bytes()


def _require_few(root: yaml.Node) -> None:
    """Raise YAMLError where a document holds itself, or, aliases written out, more values than anybody means."""
    values: dict[int, int | None] = {}

    def count(node: yaml.Node) -> int:
        if id(node) in values:
            known = values[id(node)]
            if known is None:
                raise yaml.MarkedYAMLError(problem="a value that holds itself", problem_mark=node.start_mark)
            return known
        values[id(node)] = None
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        found = 1 + (sum(map(count, inner)) if isinstance(node, yaml.CollectionNode) else 0)
        if found > MOST_VALUES:
            problem = f"more than {MOST_VALUES:,} values, aliases written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        values[id(node)] = found
        return found

    count(root)


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
        *section, key = error["loc"]
        known = sorted(setting_keys.known_keys(model, tuple(section)))
        if (current := setting_keys.current_where(model, error["loc"])[-1]) != key:
            return f"is the old name of {current}, which is given too; leave {key} out"
        return f"unknown key{nearest(str(key), known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return "is missing"
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    return f"{text}, found {_shown(error['input'])}"


def _shown(value: object) -> str:
    """Return ``value`` short enough for a message."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
