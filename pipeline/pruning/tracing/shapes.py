"""Output shapes of a graph's nodes, written into their metadata."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.passes.shape_prop import _extract_tensor_metadata

from pipeline import structures
from pipeline.structures import Inputs


def propagate_shapes(graph: fx.GraphModule, example: Inputs) -> object:
    """Write each node's output shape into its metadata; return the network's answer."""
    with torch.no_grad():
        answer: object = _Shapes(graph).run(*structures.arguments(example))
    return answer


def shape(node: fx.Node) -> tuple[int, ...] | None:
    """Return the output shape that ``propagate_shapes`` wrote, None for what is no tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)


class _Shapes(fx.Interpreter):
    """What torch's ShapeProp does, without printing each failure to standard error."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["tensor_meta"] = _extract_tensor_metadata(result)
        return result
