"""Sums of several values: nested additions, or a stack that is summed."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from pipeline.pruning.tracing.shapes import shape

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_SUMS = {torch.sum, "sum"}


def is_addition(node: fx.Node) -> bool:
    """Return whether a node of a traced network adds two others of its own shape, as they are."""
    if node.kwargs or node.target not in _ADDITIONS:  # torch.add's alpha scales one side
        return False
    return len(node.all_input_nodes) == 2 and all(_same_shape(n, node) for n in node.all_input_nodes)


def operands(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the values that a node adds up, each as it is; none where it does something else, or not only that.

    They may be of another shape than the sum, where they are repeated along some dimensions.
    """
    added = as_written(node)
    if len(added) < 2 or len(set(added)) < len(added) or shape(node) is None:
        return ()
    return added if all(shape(one) is not None for one in added) else ()


def without(node: fx.Node, gone: set[int]) -> fx.Node | None:
    """Take some operands out of a sum; return what takes its place, itself where several are left, None where none is.

    Args:
        gone: their places among ``operands``, which there were before anything was taken out.
    """
    left = [one for place, one in enumerate(as_written(node)) if place not in gone]
    if len(left) < 2:
        return left[0] if left else None
    if gone:  # of two operands one would be left: it is a stack
        stack = node.all_input_nodes[0]
        stack.args, stack.kwargs = (left,), {"dim": 0}
    return node


def as_written(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return ``operands`` in a graph whose shapes are not known any more."""
    return _stacked(node) or _added(node)


def _stacked(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the values of a stack that only this node reads and sums up again along its first dimension."""
    if node.target not in _SUMS or len(node.all_input_nodes) != 1 or node.op == "get_attr":
        return ()
    stack = node.all_input_nodes[0]
    if stack.target is not torch.stack or len(stack.users) > 1 or _along(node) not in (0, (0,)) or _along(stack) != 0:
        return ()
    values: Any = stack.args[0] if stack.args else stack.kwargs.get("tensors")
    return tuple(values) if isinstance(values, (tuple, list)) else ()


def _along(node: fx.Node) -> Any:
    """Return the dimension that a sum or stack works along; None where it is not said, or more is."""
    if set(node.kwargs) - {"dim", "axis", "tensors"} or len(node.args) > 2:
        return None
    default = 0 if node.target is torch.stack else None
    dim = node.args[1] if len(node.args) == 2 else node.kwargs.get("dim", node.kwargs.get("axis", default))
    return tuple(dim) if isinstance(dim, list) else dim


def _added(node: fx.Node) -> tuple[fx.Node, ...]:
    if node.op not in ("call_function", "call_method") or node.target not in _ADDITIONS:
        return ()
    if set(node.kwargs) - {"input", "other"}:
        return ()
    values = (*node.args, *node.kwargs.values())
    return tuple(v for v in values if isinstance(v, fx.Node)) if all(isinstance(v, fx.Node) for v in values) else ()


def _same_shape(node: fx.Node, other: fx.Node) -> bool:
    return shape(node) is not None and shape(node) == shape(other)
