"""Plugins: a folder is the registry, a module's file name is what the user types.

Beside the modules that ship, a plugin is a file of the user's own, named by its path (``--strategy mine.py``), or an
entry point of an installed package in the group ``edge_pruning.strategies``, ``.criteria``, ``.sources``, ``.formats``,
``.tasks``.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import threading
import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from pipeline.errors import ConfigError, nearest
from pipeline.import_path import load_module
from pipeline.regular_file import home_expanded

_HOLDS = {
    "strategies": "create", "criteria": "scores", "sources": "load", "formats": "open_format", "tasks": "loss"
}  # fmt: skip
"""Package's last name → the function that each of its plugins has."""
_GROUP = "edge_pruning"


def names(package: str) -> list[str]:
    """Return the plugins in ``package`` and those of installed packages, sorted; no plugin is imported.

    >>> names("pipeline.pruning.criteria")[:2]
    ['bn_scale', 'feature_map']
    """
    return sorted(_shipped(package) | _installed(_kind(package)).keys())


def load(package: str, name: str) -> ModuleType:
    """Import the plugin ``name``: one that ships (dashes count as underscores), an entry point, or a ``.py`` file.

    Raises:
        ConfigError: there is no such plugin (names the nearest one), it cannot be imported, or lacks its function.
    """
    kind = _kind(package)
    if is_file(name):
        return _of_file(str(home_expanded(name).absolute()), kind)
    known, module = names(package), name.replace("-", "_")
    if module not in known:
        raise ConfigError(
            f"no {name!r} among the {kind}{nearest(module, known)}; there are: {', '.join(known)}; or name a .py file"
        )
    if module in _shipped(package):
        return importlib.import_module(f"{package}.{module}")
    found: ModuleType = _installed(kind)[module].load()
    return found


def is_file(name: str) -> bool:
    """Return whether a plugin is named by the path of its file.

    >>> is_file("folder/mine.py"), is_file("netadapt")
    (True, False)
    """
    return name.endswith(".py")


def _shipped(package: str) -> set[str]:
    paths = importlib.import_module(package).__path__
    return {module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_")}


@cache
def _of_file(path: str, kind: str) -> ModuleType:
    return load_module(path, _HOLDS[kind], ConfigError)


@cache
def _installed(kind: str) -> dict[str, EntryPoint]:
    return {point.name.replace("-", "_"): point for point in entry_points(group=f"{_GROUP}.{kind}")}


def _kind(package: str) -> str:
    return package.rpartition(".")[2]


_PARSER = threading.Lock()


def parsed(source: bytes | str, *, feature_version: tuple[int, int] | None = None) -> ast.Module:
    """Return what a file says; may be asked by several threads, as boards are opened side by side.

    Neither CPython 3.11's parser (gh-106905) nor its warnings' filters are made for that.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is not Python.
    """
    with _PARSER, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        return ast.parse(source, feature_version=feature_version)
