"""Write docs/configuration.md from the settings' own types, defaults and sentences.

python docs/generate_configuration.py
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline import config, plugins, records
from pipeline.devices.inventory import schema
from pipeline.search.strategy_plugin import OPTIONS, STRATEGIES, settings_class

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Generated from the settings' own sentences by `python docs/generate_configuration.py`.

`pipeline init` writes a commented `run.yaml` and `inventory.yaml`. Of a run's settings the command line's options beat
`run.yaml`, which beats the defaults; of a device's, the device beats its group, the group the `defaults`, these the
profile of its kind.
"""
_INVENTORY = (
    ("measure", schema.Measure, records.MeasureSettings),
    ("power", schema.Power, records.PowerSettings),
    ("lock", schema.Lock, records.LockSettings),
    ("deploy", schema.Deploy, schema.Deploy),
)


def page() -> str:
    """Return the whole page."""
    run = [_section("", config.RunConfig), *_nested("", config.RunConfig), *_of_strategies()]
    device = [_section(f"{name}.", model, documented_by=record) for name, model, record in _INVENTORY]
    return "\n".join([HEAD, "## run.yaml\n", *run, "## inventory.yaml\n", *device]).rstrip("\n") + "\n"


def _nested(prefix: str, model: type[BaseModel]) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            path = f"{prefix}{field.alias or name}."
            found += [_section(path, kind, was=_was(field)), *_nested(path, kind)]
    return found


def _of_strategies() -> list[str]:
    """Return the tables of the strategies' own settings; a strategy without any has none."""
    own = {name: kind for name in plugins.names(STRATEGIES) if (kind := settings_class(name)) is not None}
    return [_section(f"{OPTIONS}.", kind, title=f"{OPTIONS} of strategy {name}") for name, kind in own.items()]


def _section(
    path: str, model: type[BaseModel], documented_by: type | None = None, *, title: str = "", was: str = ""
) -> str:
    """Return the table of one section's own settings."""
    sentences = _sentences(documented_by or model)
    head = f"### {title or path.rstrip('.')}\n\n" if path else ""
    rows = [
        f"| `{path}{field.alias or name}` | {_cell(_kind(field.annotation))} | {_cell(_default(field))} "
        f"| {_cell(sentences.get(name, '') + _was(field))} |"
        for name, field in model.model_fields.items()
        if not (inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel))
    ]
    return "\n".join(
        [f"{head}{inspect.getdoc(model)}{was}\n", "| key | type | default | |", "|---|---|---|---|", *rows, ""]
    )


def _sentences(model: type) -> Mapping[str, str]:
    """Return the string that stands under each field, of the class and those that it comes from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind is BaseModel or not (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
            continue
        body = ast.parse(inspect.getsource(kind)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in itertools.pairwise(body.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = " ".join(said.split())
    return found


def _kind(annotation: Any) -> str:
    """Return a type as a reader of YAML would say it.

    >>> _kind(int | None), _kind(tuple[str, ...]), _kind(Literal["on", "off"])
    ('whole number', 'list of text', 'on, off')
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(each) for each in arguments if each is not type(None)))
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}"
    if origin in (dict, Mapping) or (inspect.isclass(origin) and issubclass(origin, Mapping)):
        return f"{_kind(arguments[0])} → {_kind(arguments[1])}"
    words = {str: "text", int: "whole number", float: "number", bool: "true, false", Path: "file", Any: "anything"}
    if annotation in words:
        return words[annotation]
    return "section" if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else str(annotation)


def _was(field: FieldInfo) -> str:
    """Return which old names of a setting still count, as a sentence."""
    alias = field.validation_alias
    old = alias.choices[1:] if isinstance(alias, AliasChoices) else []
    return f" Was `{'`, `'.join(map(str, old))}`, which still counts." if old else ""


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None or default == "" or default == () or default == {}:
        return ""
    shown = ", ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
    return f"`{shown.lower() if isinstance(default, bool) else shown}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
