"""What a user names by import path, ``package.module:NAME`` or ``file.py:NAME``: found, imported, called."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import UserError, nearest
from pipeline.regular_file import LIST_BYTES, exists, home_expanded, is_there, read_bytes

_COMPAT = "pipeline.torchvision_compat"
"""Imported for its effect before a user's module, which may import torchvision, as timm does; it imports torch."""

NOT_THE_USERS = (
    Path(__file__).parent,
    *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")),
)
"""Folders whose lines in a traceback do not help whoever wrote the module."""


@contextlib.contextmanager
def imported(spec: str, error: type[UserError], thing: str) -> Iterator[Any]:
    """Give what ``spec`` names; while the block lasts, modules beside it can be imported, as for a script.

    Args:
        spec: the module's dotted name or its file, a colon, a name in it.
        error: what is raised.
        thing: what the name stands for, in the message: ``network``, ``data set``.

    Raises:
        UserError: of the class ``error``: it cannot be imported, or holds no such name.
    """
    place, _, name = spec.rpartition(":")
    is_file = place.endswith(".py")
    if is_file and not is_there(home_expanded(place)):
        found = "no such file" if not exists(home_expanded(place)) else "no regular file"
        raise error(f"{found}: {place}; a {thing} is named FILE.py:FACTORY")
    with _importable(home_expanded(place).parent if is_file else Path()):
        module = _import(place, is_file, error)
        if name not in vars(module):
            known = [n for n in vars(module) if not n.startswith("_")]
            raise error(f"{spec}: nothing is named {name!r} there{nearest(name, known)}; name what gives the {thing}")
        yield getattr(module, name)


def load_module(file: str, holds: str, error: type[UserError]) -> ModuleType:
    """Import a file that has to hold a function of that name; what it imports may lie beside it.

    Raises:
        UserError: of the class ``error``: there is no such file, it cannot be imported, or has no such function.
    """
    path = home_expanded(file)
    if not is_there(path):
        raise error(f"{'no regular file' if exists(path) else 'no such file'}: {file}; give the path of a .py file")
    with _importable(path.parent):
        module = _import(file, True, error)
    if not callable(getattr(module, holds, None)):
        raise error(f"{file} has no function {holds}, which is what is called; see docs/extending")
    return module


def called(factory: Callable[..., Any], spec: str, error: type[UserError], arguments: Mapping[str, object]) -> Any:
    """Return what the user's factory or class returns for some arguments.

    Raises:
        UserError: of the class ``error``: it raises, or wants arguments that nobody gives.
    """
    missing = [p.name for p in parameters(factory) if _is_required(p) and p.name not in arguments]
    if missing:
        raise error(
            f"{spec} requires arguments that are not passed: {', '.join(missing)}; give them "
            "defaults, or choose a function that calls it with them"
        )
    try:
        return factory(**arguments)
    except (Exception, SystemExit) as reason:  # a user's factory may raise anything
        raise error(f"{spec} raised {said(reason)}; fix it or choose another") from reason


def parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return what a callable takes; nothing where that is not known, as of some built-in ones."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []


def said(error: BaseException) -> str:
    """Return an exception on one line, with the last line of the user's own code that it passed."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_the_users(frame.filename)]
    if not own or isinstance(error, SyntaxError):  # which names its line itself
        return text
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def _is_the_users(file: str) -> bool:
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in NOT_THE_USERS)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import(place: str, is_file: bool, error: type[UserError]) -> ModuleType:
    importlib.import_module(_COMPAT)
    try:
        return _import_file(home_expanded(place)) if is_file else importlib.import_module(place)
    except (Exception, SystemExit) as reason:  # a user's module may raise anything
        raise error(f"{place} cannot be imported: {said(reason)}; fix it, or name FILE.py:FACTORY") from reason


def _import_file(file: Path) -> ModuleType:
    """Import a file under a name of its own, which dataclasses and pickles inside it rely on."""
    name = f"_of_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the file ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        read_bytes(file, LIST_BYTES)  # raises where the loader would wait, or read without end
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic
