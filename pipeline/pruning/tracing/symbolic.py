"""Symbolic tracing: quick, exact about modules, blind to Python over tensors."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from pipeline.pruning.tracing.tracer import Tracer
from pipeline.structures import Inputs

_IN_PLACE = ("iadd", "isub", "imul", "itruediv")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A graph, and what it holds as a whole."""

    graph: fx.GraphModule
    whole: Mapping[str, str]
    """Modules that are called as a whole → why they could not be traced."""


def recorded(network: nn.Module, example: Inputs) -> Recorded:
    """Return ``network`` as a graph, whose later readers of a tensor that changes in place read the change's result.

    Args:
        network: in eval mode; not changed.
        example: a batch.

    Raises:
        Exception: whatever a user's forward() raises on a symbolic value.
    """
    tracer = Tracer(example)
    graph = fx.GraphModule(network, tracer.trace(network), type(network).__name__)
    _follow_in_place(graph)
    _drop_idle(graph)
    return Recorded(graph, tracer.whole)


def _follow_in_place(graph: fx.GraphModule) -> None:
    """Let later readers of a tensor that is changed in place read the change's result: nobody relies on the order."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in graph.graph.nodes:
        if _is_in_place(graph, node) and node.all_input_nodes:
            node.all_input_nodes[0].replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])


def _is_in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op != "placeholder" and (
        node.kwargs.get("inplace") is True
        or (name.endswith("_") and not name.endswith("__"))
        or (node.op == "call_function" and name in _IN_PLACE and node.target is getattr(operator, name, None))
    )


def _drop_idle(graph: fx.GraphModule) -> None:
    """Take out assertions, which held for the model as it came, and stochastic depth, which does nothing in eval."""
    for node in reversed(graph.graph.nodes):
        name = getattr(node.target, "__name__", "")
        if node.target is torch._assert and not node.users:
            graph.graph.erase_node(node)
        elif name == "stochastic_depth":
            node.replace_all_uses_with(node.all_input_nodes[0])
