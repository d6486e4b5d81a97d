"""ReLUs that change nothing: without the addition before it, a ReLU may read what is never below zero."""

from __future__ import annotations

from torch import fx

from pipeline.pruning.tracing.operators import operator_name

_NEVER_NEGATIVE = frozenset({"relu", "relu6"})
_KEEPING_SIGNS = frozenset(
    """
    adaptiveavgpool1d adaptive_avg_pool1d adaptivemaxpool1d adaptive_max_pool1d avgpool1d avg_pool1d maxpool1d
    max_pool1d
    adaptiveavgpool2d adaptive_avg_pool2d adaptivemaxpool2d adaptive_max_pool2d avgpool2d avg_pool2d cat clone concat
    concatenate contiguous dropout dropout1d dropout2d dropout3d flatten getitem identity maxpool2d max_pool2d reshape
    stochasticdepth stochastic_depth upsamplingnearest2d view
    """.split()  # noqa: SIM905 - a table of words
)
"""Operators whose results are not negative where nothing that they read is."""


def drop_idle_relus(graph: fx.GraphModule) -> None:
    """Let what reads a ReLU that changes nothing read its input instead; in place, the ReLU itself stays unread."""
    never_negative: set[fx.Node] = set()
    for node in list(graph.graph.nodes):
        name = "" if node.op in ("placeholder", "get_attr", "output") else operator_name(graph, node)
        read = node.all_input_nodes
        if name == "relu" and read[0] in never_negative:
            node.replace_all_uses_with(read[0])
        elif name in _NEVER_NEGATIVE or (
            (name in _KEEPING_SIGNS or _adds_nodes(name, node) or _pads_with_zeros(name, node))
            and all(source in never_negative for source in read)
        ):
            never_negative.add(node)


def _adds_nodes(name: str, node: fx.Node) -> bool:
    """Return whether it is a sum of two nodes: a number may be negative, and ``alpha`` may scale one side."""
    return name in ("add", "iadd") and not node.kwargs and all(isinstance(arg, fx.Node) for arg in node.args)


def _pads_with_zeros(name: str, node: fx.Node) -> bool:
    """Return whether it is ``F.pad(x, sizes, mode, value)`` without a constant other than zero."""
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return name == "pad" and value in (None, 0)
