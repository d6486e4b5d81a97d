"""Graph simplification: identity and repeated operators removed, as exporters do."""

from __future__ import annotations

from typing import Any

from torch import fx

from pipeline.pruning.tracing.operators import operator_name

_VIEWS = frozenset({"chunk", "getattr", "getitem", "narrow", "select", "size", "split", "tensor_split"})
"""What gives the same for the same arguments and costs nothing; it is written once."""


def simplify(graph: fx.GraphModule) -> None:
    """Take out sums with the number zero, which Python's ``sum`` begins with, and repeated views, in place."""
    known: dict[tuple[Any, ...], fx.Node] = {}
    for node in list(graph.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        name = operator_name(graph, node)
        if name == "add" and (alone := _without_zero(node)) is not None:
            _replace(graph, node, alone)
        elif name in _VIEWS:
            key = (node.op, node.target, repr(node.args), repr(node.kwargs))
            if key in known:
                _replace(graph, node, known[key])
            known.setdefault(key, node)


def _without_zero(node: fx.Node) -> fx.Node | None:
    """Return the only other side of a sum with the number zero."""
    nodes = [arg for arg in node.args if isinstance(arg, fx.Node)]
    numbers = [arg for arg in node.args if not isinstance(arg, fx.Node)]
    return nodes[0] if len(nodes) == 1 and numbers == [0] and not node.kwargs else None


def _replace(graph: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    graph.graph.erase_node(node)
