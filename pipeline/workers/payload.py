"""Payload: what is sent to a worker, as bytes.

Values are pickled by cloudpickle, which sends classes and functions of the user's own modules as code, so that a worker
on another host needs none of their files. Traced networks are written node by node: pickled as torch does it, they
would be traced anew, and be other graphs.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
from torch import fx, nn

from pipeline.errors import WorkersError
from pipeline.import_path import NOT_THE_USERS, said

_COMPAT = "pipeline.torchvision_compat"
_OURS = frozenset({"pipeline", "deploy", "device_agents", "profiles"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of packages, of other environments that this one sees, too."""
_LOCK = threading.Lock()
"""Which modules are written as code is a matter of the process."""
_PARTS = ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "training", "meta")
"""What of a traced network is not its graph."""


def packed(value: object) -> bytes:
    """Return a value as bytes, which ``pickle.loads`` reads in any process that has this program.

    Raises:
        WorkersError: a part of it cannot be sent, as an open file or a lock.
    """
    stream = io.BytesIO()
    try:
        with _LOCK, _own_modules_by_value():
            _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(_Prepared(value))
    except Exception as error:  # a user's object may raise anything
        raise WorkersError(
            f"the network or the data cannot be sent to workers: {said(error)}; leave out what holds files, locks or "
            "connections, or run without --workers"
        ) from error
    return stream.getvalue()


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    """Have classes and functions of the user's modules written as code while the block lasts."""
    own = {module.__name__: module for module in list(sys.modules.values()) if _is_the_users(module)}
    for module in own.values():
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own.values():
            cloudpickle.unregister_pickle_by_value(module)


class _Prepared:
    """A value that is unpacked once torchvision can be imported, of which a network's layers may be."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        """Return how it is read: what stands first is done first."""
        first = _Import(_COMPAT) if "torchvision" in sys.modules else None
        return _second, (first, self._value)


class _Import:
    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return importlib.import_module, (self._module,)


def _second(first: object, value: object) -> object:
    del first
    return value


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes traced networks node by node."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made anew."""
        if isinstance(obj, fx.GraphModule):
            state = {part: obj.__dict__[part] for part in _PARTS}
            nodes = [_record(node) for node in obj.graph.nodes]
            return _graph_module, (type(obj).__name__, nodes, state)
        return super().reducer_override(obj)


class _Reference(str):
    """A node by its name."""

    __slots__ = ()


def _record(node: fx.Node) -> tuple[Any, ...]:
    args, kwargs = (fx.map_arg(part, _reference) for part in (node.args, node.kwargs))
    meta = {key: value for key, value in node.meta.items() if key == "tensor_meta"}
    return node.op, node.name, node.target, args, kwargs, node.type, meta


def _reference(node: fx.Node) -> Any:
    return _Reference(node.name)


def _graph_module(name: str, nodes: list[tuple[Any, ...]], state: Mapping[str, Any]) -> fx.GraphModule:
    """Return a traced network as it was written."""
    root = nn.Module()
    root.__dict__.update({part: state[part] for part in _PARTS})
    graph, known = fx.Graph(), dict[str, fx.Node]()
    for op, called, target, args, kwargs, kind, meta in nodes:
        node = graph.create_node(op, target, _resolved(args, known), _resolved(kwargs, known), called, kind)
        node.meta.update(meta)
        known[called] = node
    module = fx.GraphModule(root, graph, name)
    module.__dict__.update({part: state[part] for part in _PARTS})  # in their own order, by which sums are rounded
    return module


def _resolved(part: Any, known: Mapping[str, fx.Node]) -> Any:
    """Return arguments with nodes in the place of their names."""
    return _mapped(part, lambda leaf: known[leaf] if isinstance(leaf, _Reference) else leaf)


def _mapped(part: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*(_mapped(each, leaf) for each in part))
    if isinstance(part, tuple | list):
        return type(part)(_mapped(each, leaf) for each in part)
    if isinstance(part, dict):
        return {key: _mapped(each, leaf) for key, each in part.items()}
    if isinstance(part, slice):
        return slice(*(_mapped(each, leaf) for each in (part.start, part.stop, part.step)))
    return leaf(part)


def _is_the_users(module: ModuleType) -> bool:
    """Return whether a module is neither this program's, nor the interpreter's, nor of an installed package."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "__main__")
    if not isinstance(file, str) or not file.endswith(".py") or sys.modules.get(name) is not module:
        return False
    if name == "__main__" or name.partition(".")[0] in _OURS:  # cloudpickle sends the former as code by itself
        return False
    return _is_outside(file)


@cache
def _is_outside(file: str) -> bool:
    path = Path(file).resolve()
    return _INSTALLED.isdisjoint(path.parts) and not any(path.is_relative_to(folder) for folder in NOT_THE_USERS)
