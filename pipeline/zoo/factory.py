"""A user's own network: ``package.module:factory`` or ``file.py:factory``, imported and called."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.errors import ModelError, nearest


def build(spec: str, *, classes: int) -> nn.Module:
    """Import what stands before the colon and call what stands after it, with ``num_classes=`` where it takes that.

    Raises:
        ModelError: it cannot be imported or found, raises, or returns something else than a network.
    """
    place, _, name = spec.rpartition(":")
    is_file = place.endswith(".py")
    with _importable(Path(place).expanduser().parent if is_file else Path()):
        module = _import(place, is_file)
        factory = _factory(module, name, spec)
        model = _call(factory, spec, classes)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returned a {type(model).__name__}; it has to return a torch.nn.Module")
    return model


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules beside the user's own be imported, as python itself does for a script."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import(place: str, is_file: bool) -> ModuleType:
    if is_file and not Path(place).expanduser().is_file():
        raise ModelError(f"no such file: {place}; a network is named FILE.py:FACTORY")
    try:
        return _import_file(Path(place).expanduser()) if is_file else importlib.import_module(place)
    except Exception as error:  # a user's module may raise anything
        raise ModelError(f"{place} cannot be imported: {_said(error)}; mend it, or name FILE.py:FACTORY") from error


def _import_file(file: Path) -> ModuleType:
    """Import a file under a name of its own, which dataclasses and pickles inside it rely on."""
    name = f"_model_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the file ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _factory(module: ModuleType, name: str, spec: str) -> Callable[..., Any]:
    factory: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(factory):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise ModelError(f"{spec}: nothing callable is named {name!r}{nearest(name, known)}; name a factory or a class")
    return factory


def _call(factory: Callable[..., Any], spec: str, classes: int) -> object:
    try:
        return factory(num_classes=classes) if _takes_classes(factory) else factory()
    except Exception as error:  # a user's factory may raise anything
        raise ModelError(f"{spec} raised {_said(error)}; it has to build its network without arguments") from error


def _takes_classes(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # built-in callables may have no signature
        return False
    return any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in parameters)


def _said(error: Exception) -> str:
    """Return an exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
