"""Format plugin: what a format's file declares, for whoever needs no network: devices, bundles, recordings.

A format is one file, ``pipeline/export/formats/NAME.py`` or one of the user's own, and has

    ENDING = "onnx"                    how its files' names end
    RUNTIME = "ONNX Runtime"           what runs them, for a bundle's README
    PACKAGES = ("onnxruntime",)        what a bundle's example needs beside numpy and pillow
    open_format(base, example, *, support, on_note) -> Format          see :mod:`pipeline.export.format`

and may have

    open_network(path) -> Network      opens a file; copied into a bundle's runtime.py as it stands, Python 3.6; needed
                                       for all but .onnx and .tflite, which runtime.py opens by itself

    require_usable(data, support, *, shown)    raises ModelError for a user's file that no device could load
    skeleton(data) -> bytes            the file without its weights (:mod:`pipeline.export.skeleton_container`), by
                                       which a recording knows networks of one structure; else by the very file alone
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from pipeline import plugins
from pipeline.errors import ConfigError
from pipeline.records import ModelFormat, OnnxSupport

FORMATS = "pipeline.export.formats"
SKELETON = "skeleton"
"""How the names of weightless stand-ins end, of whatever format."""
GIVEN = ("Any", "Callable", "Dict", "List", "Network", "Optional", "Path", "Tuple", "json", "np", "sys", "time")
"""Names that a bundle's runtime.py has, and ``open_network`` may use."""
OPENED = ("onnx", "tflite")
"""Endings of the files that runtime.py opens by itself."""

_NEEDED = {
    "ENDING": 'how its files\' names end: ENDING = "onnx"',
    "RUNTIME": 'what runs its files: RUNTIME = "ONNX Runtime"',
    "PACKAGES": 'what opens them: PACKAGES = ("onnxruntime",)',
    "open_format": "what writes networks: open_format(base, example, *, support, on_note)",
}
_ENDING = re.compile(r"[a-z0-9]{1,16}")
_TAKEN = (SKELETON, "npy", "expanded")


@cache
def model_format(name: str) -> ModelFormat:
    """Return what the format ``name`` declares.

    Raises:
        ConfigError: there is no such format, or its file lacks something; says what, and what it looks like.
    """
    plugin = plugins.load(FORMATS, name)
    for needed, meaning in _NEEDED.items():
        if not hasattr(plugin, needed):
            raise _misfit(name, f"has no {needed}, {meaning}")
    ending, packages = plugin.ENDING, plugin.PACKAGES
    if not isinstance(ending, str) or not _ENDING.fullmatch(ending) or ending in _TAKEN:
        raise _misfit(name, f"ENDING is {ending!r}, expected up to 16 small letters and digits, not {'/'.join(_TAKEN)}")
    if isinstance(packages, str) or not all(isinstance(package, str) for package in packages):
        raise _misfit(name, f"PACKAGES is {packages!r}, expected a tuple of names, as pip takes them")
    if ending not in OPENED and not hasattr(plugin, "open_network"):
        raise _misfit(name, "has no open_network, what opens a file in a bundle's runtime.py: open_network(path)")
    return ModelFormat(
        name=portable_format(name), ending=ending, runtime=str(plugin.RUNTIME), packages=tuple(packages),
        opening=_source(plugin, name) if hasattr(plugin, "open_network") else None,
    )  # fmt: skip


def portable_format(name: str) -> str:
    """Return a format's name as it is understood elsewhere: without the folder that its file lies in here.

    >>> portable_format("/home/me/half.py"), portable_format("onnx")
    ('half.py', 'onnx')
    """
    return Path(name).name if plugins.is_file(name) else name


def require_usable(name: str, data: bytes, support: OnnxSupport | None, *, shown: str) -> None:
    """Raise ModelError where a user's file of format ``name`` is damaged or newer than the device's runtime loads.

    Args:
        shown: how the file is called in the message.
    """
    check: Callable[..., None] | None = getattr(plugins.load(FORMATS, name), "require_usable", None)
    if check is not None:
        check(data, support, shown=shown)


def skeleton_of(name: str, data: bytes) -> bytes | None:
    """Return a file of format ``name`` without its weights; None: the format cannot tell them apart."""
    strip: Callable[[bytes], bytes] | None = getattr(plugins.load(FORMATS, name), "skeleton", None)
    return None if strip is None else strip(data)


def _misfit(name: str, problem: str) -> ConfigError:
    return ConfigError(f"format {name}: {problem}; see docs/extending/format.md")


def _source(plugin: ModuleType, name: str) -> str:
    """Return ``open_network`` as text that does its work in another file, under Python 3.6."""
    try:
        source = textwrap.dedent(inspect.getsource(plugin.open_network))
        tree = plugins.parsed(source, feature_version=(3, 6))
    except (OSError, TypeError) as error:
        raise _misfit(name, f"open_network has no source to be copied: {error}") from error
    except SyntaxError as error:
        raise _misfit(name, f"open_network is copied into bundles and has to be Python 3.6: {error.msg}") from error
    if not isinstance(tree.body[0], ast.FunctionDef) or tree.body[0].name != "open_network":
        raise _misfit(name, "open_network is copied into bundles and has to be written as def open_network(path)")
    if foreign := sorted(set(_read(tree)) - set(_bound(tree)) - set(GIVEN) - set(dir(builtins))):
        raise _misfit(name, f"open_network is copied into bundles alone; import or define {', '.join(foreign)} in it")
    return source


def _read(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def _bound(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a function gives a value somewhere: arguments, imports, assignments, functions in it."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)):
                yield name
