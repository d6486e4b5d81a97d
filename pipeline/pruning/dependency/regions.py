"""Regions of a graph: nodes that lead to one place only, and the layers among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from torch import fx

from pipeline.pruning.tracing.operators import operator_name

_WITH_WEIGHTS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear".split())  # noqa: SIM905
"""Functions that take a layer's weights."""


class Regions:
    """The regions of one network; of two, they are apart or one lies within the other."""

    def __init__(self, graph: fx.GraphModule) -> None:
        """Read which nodes use which modules and parameters."""
        self._graph = graph
        self._backwards = list(reversed(graph.graph.nodes))
        self._layers = {node: layer for node in self._backwards if (layer := _layer(graph, node)) is not None}
        self._uses = Counter(name for node in self._backwards for name in self._names(node))

    def behind(self, source: fx.Node, users: Iterable[fx.Node]) -> frozenset[fx.Node]:
        """Return the nodes that only ``users`` need, through ``source``; none where others read that, too."""
        if not set(source.users) <= set(users):
            return frozenset()
        inside = {source}
        for node in self._backwards:
            if node.users and all(user in inside for user in node.users):
                inside.add(node)
        return frozenset(inside)

    def held(self, region: frozenset[fx.Node]) -> frozenset[str]:
        """Return the modules and the parameters by themselves that nothing outside uses, by name."""
        uses = Counter(name for node in region for name in self._names(node))
        return frozenset(name for name, count in uses.items() if count == self._uses[name])

    def layers(self, region: frozenset[fx.Node]) -> frozenset[str]:
        """Return the layers with weights that nothing outside uses."""
        return self.held(region) & {self._layers[node] for node in region if node in self._layers}

    def parameters(self, layers: Iterable[str]) -> int:
        """Return how many parameters some layers have."""
        return sum(p.numel() for layer in layers for p in self._graph.get_submodule(layer).parameters())

    def _names(self, node: fx.Node) -> set[str]:
        own = {str(node.target)} if node.op in ("call_module", "get_attr") else set()
        return own | ({self._layers[node]} if node in self._layers else set())


def _layer(graph: fx.GraphModule, node: fx.Node) -> str | None:
    """Return the layer with weights that a node applies, or whose weights it hands to a function."""
    if node.op == "call_module":
        weights = graph.get_submodule(str(node.target)).parameters()
        return str(node.target) if any(weight.dim() > 1 for weight in weights) else None
    if node.op != "get_attr" or not any(
        user.op == "call_function" and operator_name(graph, user) in _WITH_WEIGHTS for user in node.users
    ):
        return None
    return str(node.target).rpartition(".")[0] or None
