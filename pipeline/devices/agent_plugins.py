"""Agent plugins: power sensors and runtimes, one a file; what a file says of itself is read from its text.

Those that ship lie in ``device_agents``; a user's own lie in a folder ``plugins`` beside the inventory, as
``plugins/power/NAME.py`` and ``plugins/runtimes/NAME.py``, and are packed into the agent beside them.

No plugin is imported here: many import what only boards have. Nor is the board asked what they say: what
`devices setup` runs there, and whose groups a user joins, is not for a board to tell.
"""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline import plugins
from pipeline.errors import InventoryError, nearest
from pipeline.export.format_plugin import FORMATS
from pipeline.records import Device, OnnxSupport
from pipeline.regular_file import SETTINGS_BYTES, is_folder, read_bytes

FOLDER = "plugins"
"""Beside the inventory."""
Kind = Literal["power", "runtimes"]
"""A folder of the agent's."""
KINDS: tuple[Kind, ...] = ("power", "runtimes")

MOST_FILES = 50
"""Of one kind; an agent's answer tells of each."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _known_format(name: str) -> str:
    known = plugins.names(FORMATS)
    if name not in known:
        raise ValueError(f"there is no format {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    return name


Line = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of shell, or of a script's comment."""
Format = Annotated[str, AfterValidator(_known_format)]
Operator = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Group = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$")]


class _Said(BaseModel):
    """What a plugin's file says, each name written out at its top level."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Said):
    """What to run on the board where a sensor's check fails in certain words."""

    when: str = Field(min_length=1)
    command: Line
    title: Line | None = None
    board: str = ""
    """How the names of the boards begin that it is for."""


class Sensor(_Said):
    """What a power sensor's file says; see ``device_agents.power``."""

    preference: int = Field(default=100, strict=True, alias="PREFERENCE")
    user_groups: tuple[Group, ...] = Field(default=(), alias="USER_GROUPS")
    setup: tuple[Setup, ...] = Field(default=(), alias="SETUP")


class Runtime(_Said):
    """What a runtime's file says; see ``device_agents.runtimes``."""

    loads: Format | None = Field(default=None, alias="LOADS")
    """The format of its model files; None: what the inventory says."""
    install: Line | None = Field(default=None, alias="INSTALL")
    runs_on: Line = Field(default="processor", alias="RUNS_ON")
    """What of the board, in a word."""
    builds: bool = Field(default=False, strict=True, alias="BUILDS")
    """Whether it builds an engine on the board, for which it has time of its own."""
    onnx_limits: dict[Annotated[str, Field(pattern=r"^\d+\.\d+$")], tuple[int, int]] = Field(
        default={}, alias="ONNX_LIMITS"
    )
    int8_operators: dict[Annotated[str, Field(pattern=r"^\d+\.\d+$")], tuple[Operator, ...]] = Field(
        default={}, alias="INT8_OPERATORS"
    )
    not_on: dict[str, Line] = Field(default={}, alias="NOT_ON")
    """Processor that it cannot be had for → what to do."""

    def newest_onnx(self) -> Mapping[tuple[int, int], OnnxSupport]:
        """Return the runtime's version → the newest ONNX that it loads from that one on."""
        return {_numbers(version): OnnxSupport(*both) for version, both in self.onnx_limits.items()}

    def computed_in_int8(self, version: str) -> frozenset[str] | None:
        """Return the kinds of ONNX operators that a version computes in INT8; None: the file does not say.

        >>> runtime_named("onnxruntime", None).computed_in_int8("1.10.0") >= {"Conv", "Add"}
        True
        """
        if not self.int8_operators:
            return None
        known = {_numbers(first): frozenset(kinds) for first, kinds in self.int8_operators.items()}
        try:
            major, minor = (int(part) for part in version.split(".")[:2])
        except ValueError:
            return frozenset()
        older = [first for first in known if first <= (major, minor)]
        return known[max(older)] if older else frozenset()


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a file of one kind has to hold."""

    said: type[Sensor] | type[Runtime]
    thing: str
    functions: tuple[str, ...]
    page: str


_SHAPES: Mapping[Kind, _Shape] = {
    "power": _Shape(Sensor, "sensor", ("check", "open"), "docs/extending/sensor.md"),
    "runtimes": _Shape(Runtime, "runtime", ("installed", "version", "load"), "docs/extending/runtime.md"),
}
_OF_A_BUILDER = ("recipe", "build")
_WORDS: Mapping[Kind, Collection[str]] = {"power": ("auto",), "runtimes": ()}
"""Names that mean something else in an inventory."""


@dataclass(frozen=True, slots=True)
class PluginFile:
    """A file of the user's own; one whose name begins with ``_`` is what several of them share."""

    kind: Kind
    name: str
    path: Path
    content: bytes
    said: Sensor | Runtime | None
    """None: it is no plugin."""


# ---------------------------------------------------------------- what there is


def names(kind: Kind, folder: str | None = None) -> list[str]:
    """Return the plugins that an agent has: those that ship, and the user's own in ``folder``.

    >>> "ina219" in names("power")
    True
    """
    found = {*_shipped(kind), *(file.name for file in own(folder) if file.kind == kind)}
    return sorted(name for name in found if not name.startswith("_"))


def sensor(device: Device, name: str) -> Sensor:
    """Return what a sensor's file says; nothing where there is none, as of a recorded board's own."""
    said = _said("power", name, device.plugins)
    return said if isinstance(said, Sensor) else Sensor()


def runtime(device: Device) -> Runtime:
    """Return what the file of the device's runtime says; nothing where there is none, as of a recorded board's own.

    >>> runtime(Device(name="nano", kind="jetson-nano", runtime="tensorrt")).builds
    True
    """
    return runtime_named(device.runtime, device.plugins)


def runtime_named(name: str, folder: str | None) -> Runtime:
    """Return what the file of the runtime ``name`` says."""
    said = _said("runtimes", name, folder)
    return said if isinstance(said, Runtime) else Runtime()


def packed(folder: str | None) -> tuple[tuple[str, bytes], ...]:
    """Return the user's own files as the agent's zipapp takes them: path in the package, and content."""
    return tuple((f"{file.kind}/{file.name}.py", file.content) for file in own(folder))


def own(folder: str | None) -> tuple[PluginFile, ...]:
    """Return the files in a folder of the user's own.

    Raises:
        InventoryError: one of them cannot be used; says which, where and what to do.
    """
    if folder is None:
        return ()
    return tuple(_checked(kind, path) for kind in KINDS for path in _files(Path(folder) / kind))


def used_by(device: Device, backend: str) -> Iterator[Path]:
    """Yield the files of the user's own that the device's figures come from, with what they share."""
    for file in own(device.plugins):
        if file.name.startswith("_") or file.name == {"power": backend, "runtimes": device.runtime}[file.kind]:
            yield file.path.absolute()


def _said(kind: Kind, name: str, folder: str | None) -> Sensor | Runtime | None:
    if name in _shipped(kind):
        return _said_by_shipped(kind, name)
    return next((file.said for file in own(folder) if (file.kind, file.name) == (kind, name)), None)


@cache
def _shipped(kind: Kind) -> frozenset[str]:
    """Return the names of the files that ship."""
    files = (resources.files("device_agents") / kind).iterdir()
    return frozenset(file.name.removesuffix(".py") for file in files if file.name.endswith(".py"))


@cache
def _said_by_shipped(kind: Kind, name: str) -> Sensor | Runtime | None:
    file = resources.files("device_agents") / kind / f"{name}.py"
    return _read(kind, name, file.read_bytes(), str(file))


@cache
def _taken(kind: Kind) -> frozenset[str]:
    """Return the names that would hide something: files that ship, what their package itself holds, other words."""
    package = resources.files("device_agents") / kind / "__init__.py"
    held = {name for name, _ in _bindings(plugins.parsed(package.read_bytes()).body)}
    return _shipped(kind) | held | frozenset(_WORDS[kind])


# ---------------------------------------------------------------- one file


def _files(folder: Path) -> list[Path]:
    """Return the modules in a folder; an ``__init__.py`` is none."""
    if not is_folder(folder):
        return []
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.stem[0] != ".")
    except OSError as error:
        raise InventoryError(f"{folder} cannot be read: {error.strerror}") from error
    if len(found) > MOST_FILES:
        raise InventoryError(f"{folder} has {len(found)} files, at most {MOST_FILES} are packed; move some elsewhere")
    return [path for path in found if path.stem != "__init__"]


def _checked(kind: Kind, path: Path) -> PluginFile:
    name, thing = path.stem, _SHAPES[kind].thing
    if not _NAME.fullmatch(name):
        raise InventoryError(f"{path}: a {thing}'s name holds letters, digits and '_' only; rename the file")
    if name in _taken(kind):
        what = f"the {thing} {name} that ships" if name in _shipped(kind) else f"{name!r}, which has a meaning already"
        raise InventoryError(f"{path} would hide {what}; rename it, for example to my_{name.lstrip('_')}.py")
    try:
        content = read_bytes(path, SETTINGS_BYTES)
    except OSError as error:
        raise InventoryError(f"{path} cannot be read: {error.strerror or error}; fix it, or move it away") from error
    return PluginFile(kind, name, path, content, _read(kind, name, content, str(path)))


def _read(kind: Kind, name: str, content: bytes, shown: str) -> Sensor | Runtime | None:
    """Return what a file says of itself; None for what several plugins share.

    Raises:
        InventoryError: it is no Python, lacks a function, or says something that is none of its kind's.
    """
    bound = _bound(content, shown)
    if name.startswith("_"):
        return None
    shape = _SHAPES[kind]
    said = _values(shape, bound, shown)
    wanted = shape.functions + (_OF_A_BUILDER if isinstance(said, Runtime) and said.builds else ())
    there = {name for name, _ in bound}
    missing = [function for function in wanted if function not in there]
    if missing and "*" not in there:
        raise InventoryError(
            f"{shown} has no function {missing[0]}; a {shape.thing}'s file has {', '.join(wanted)}: see {shape.page}"
        )
    return said


def _bound(content: bytes, shown: str) -> list[tuple[str, ast.expr | None]]:
    try:
        return list(_bindings(plugins.parsed(content).body))
    except SyntaxError as error:
        why, line = f"{error.msg} (as Python {platform.python_version()} reads it)", error.lineno or 1
    except (ValueError, RecursionError, MemoryError) as error:
        why, line = str(error) or "nested too deeply", 1
    raise InventoryError(f"{shown}:{line}: not Python: {why}; fix it, or move it out of {FOLDER}/")


def _values(shape: _Shape, bound: Iterable[tuple[str, ast.expr | None]], shown: str) -> Sensor | Runtime:
    names = {field.alias for field in shape.said.model_fields.values()}
    try:
        return shape.said.model_validate({name: _literal(name, node, shown) for name, node in bound if name in names})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InventoryError(
            f"{shown}: {place}: {first['msg'].removeprefix('Value error, ')}; see {shape.page}"
        ) from error


def _literal(name: str, value: ast.expr | None, shown: str) -> Any:
    try:
        if value is not None:
            return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    at = f":{value.lineno}" if value is not None else ""
    raise InventoryError(
        f"{shown}{at}: {name} is computed; write it out as `{name} = ...` at the top level: the file is read, not run"
    )


def _bindings(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield each name that a module binds, with its value where that stands as ``NAME = value`` at the top level."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, None
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                yield from ((alias.asname or alias.name.partition(".")[0], None) for alias in imported)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                yield name, value
            case _:
                for node in _inside(statement):
                    found = _bindings([node]) if isinstance(node, ast.stmt) else [(node.id, None)]
                    yield from ((name, None) for name, _ in found)


def _inside(node: ast.AST) -> Iterator[ast.stmt | ast.Name]:
    """Yield the statements directly in a compound one, and the names that a simple one stores."""
    waiting = [*ast.iter_child_nodes(node)]
    while waiting:
        child = waiting.pop()
        if isinstance(child, ast.stmt) or (isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)):
            yield child
        else:
            waiting += ast.iter_child_nodes(child)
