"""Operator names: one word for a node, be it a function, a method or a module."""

from __future__ import annotations

import operator

from torch import fx, nn

_TRUSTED = ("torch", "_operator", "operator", "torchvision", "math")
"""Whose functions are what their names say; a user's own ``relu`` may be anything."""


def operator_name(graph: nn.Module, node: fx.Node) -> str:
    """Return ``relu`` for ``nn.ReLU()``, ``F.relu`` and ``x.relu_()``; a user's own class or function keeps its name.

    Without the underscores that mark in-place and inner variants; a torch module by its class's name in lower case.
    """
    if node.op == "call_module":
        kind = type(graph.get_submodule(str(node.target)))
        return kind.__name__.lower() if _trusted(kind.__module__) else kind.__name__
    if node.op == "call_method":
        return str(node.target).strip("_")
    name: str = getattr(node.target, "__name__", str(node.target))
    own: str = getattr(node.target, "__module__", None) or "torch"
    if _trusted(own) or node.target is operator.getitem:
        return name.strip("_")
    return f"{own.partition('.')[0]}.{name}"


def _trusted(module: str) -> bool:
    return module.partition(".")[0] in _TRUSTED
