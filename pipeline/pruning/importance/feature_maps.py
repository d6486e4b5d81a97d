"""What a network's layers answer to images, one figure a channel, streamed: no feature map is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx

from pipeline import structures
from pipeline.errors import ModelError
from pipeline.pruning.dependency.propagation import elementwise
from pipeline.pruning.tracing.operators import operator_name
from pipeline.pruning.tracing.shapes import shape
from pipeline.structures import Inputs

Statistic = Callable[[Tensor], Tensor]
"""Feature maps (N, C, H, W) → one figure an image and channel (N, C)."""

_PASSING = elementwise.UNARY | {
    "add", "iadd", "prelu", "layernorm2d",
    *(f"{kind}norm{size}d" for kind in ("batch", "instance") for size in (1, 2, 3)),
    *(f"{kind}_norm" for kind in ("batch", "instance", "group", "layer")), "groupnorm", "layernorm",
}  # fmt: skip
"""Operations that treat each channel by itself and leave it in its place: functions, methods, classes of modules."""


def observe(
    model: fx.GraphModule, weights: Collection[str], statistic: Statistic, images: Iterable[Inputs]
) -> dict[str, Tensor]:
    """Return the mean over ``images`` of a statistic of each layer's feature maps; (channels,), float64.

    Args:
        weights: of convolutions and linear layers, by qualified name; those that are never used are absent.
        images: batches as the network takes them.

    Raises:
        ModelError: a feature map is not finite.
    """
    watched = {name: _readers(model, name) for name in weights}
    ends = {node: settled(model, node) for nodes in watched.values() for node in nodes}
    observer = _Observer(model, {end: operator_name(model, node) == "linear" for node, end in ends.items()}, statistic)
    seen = 0
    for batch in images:
        with torch.no_grad():
            observer.run(*structures.arguments(batch))
        seen += structures.count(batch)
    return {
        name: torch.stack([observer.sums[ends[node]] for node in nodes]).mean(0) / seen
        for name, nodes in watched.items()
        if nodes
    }


def settled(model: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the node at which a layer's feature maps are read: behind its norm, the addition and the activation.

    HRank (Lin et al., 2020, the authors' code) hooks the ReLU behind a layer's batch norm, and behind the addition
    where the layer ends a residual branch. So from the layer on, each operation is followed that treats channels alone
    and is the only one to read what is there; a branching, a pooling or a concatenation ends the way.
    """
    while len(node.users) == 1:
        reader = next(iter(node.users))
        if operator_name(model, reader) not in _PASSING or shape(reader) != shape(node):
            break
        node = reader
    return node


def _readers(model: fx.GraphModule, weight: str) -> list[fx.Node]:
    """Return the calls of the module that owns a weight, or of the functions that are given it."""
    owner = weight.rpartition(".")[0]
    modules = [n for n in model.graph.nodes if n.op == "call_module" and n.target == owner]
    held = [n for n in model.graph.nodes if n.op == "get_attr" and n.target == weight]
    return modules + [user for node in held for user in node.users]


class _Observer(fx.Interpreter):
    """Runs a graph and sums a statistic of some nodes' outputs; an output is gone as soon as nothing reads it."""

    def __init__(self, model: fx.GraphModule, channels_last: dict[fx.Node, bool], statistic: Statistic) -> None:
        super().__init__(model)
        self.extra_traceback = False  # else it writes the node into our messages
        self._channels_last = channels_last
        self._statistic = statistic
        self.sums: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; what is watched is summed up at once, before an in-place operation writes over it."""
        result = super().run_node(n)
        if n in self._channels_last:
            maps = _as_maps(result, channels_last=self._channels_last[n])
            if not torch.isfinite(maps).all():
                raise ModelError(
                    f"the feature maps at {n.name} hold NaN or infinite values, so channels cannot be compared; look "
                    "whether the images are numbers, and the weights not so large that a layer overflows"
                )
            self.sums[n] = self.sums.get(n, 0) + self._statistic(maps).sum(0, dtype=torch.float64).cpu()
        return result


def _as_maps(output: Tensor, *, channels_last: bool) -> Tensor:
    """Return (N, C, H, W): a linear layer's figure is a map of one pixel, a sequence a map of one row.

    >>> tuple(_as_maps(torch.zeros(2, 5), channels_last=True).shape)
    (2, 5, 1, 1)
    >>> tuple(_as_maps(torch.zeros(2, 3, 5), channels_last=True).shape)
    (2, 5, 1, 3)
    """
    maps = output.movedim(-1, 1) if channels_last else output
    return maps.reshape(*maps.shape[:2], -1, maps.shape[-1] if maps.dim() > 2 else 1)
