"""A model as an editable graph: traced once, so that whole blocks can be taken out of it."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pipeline.errors import ModelError, first_line


def trace(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return ``model`` in eval mode as a graph; parameter names stay what they were.

    Args:
        model: any ``nn.Module`` whose forward takes one image batch.
        example: a batch of the input's shape, (N, C, H, W).

    Raises:
        ModelError: the forward pass branches on its data, or does not run on ``example``.
    """
    model = model.eval()
    try:
        graph = fx.symbolic_trace(model)
    except Exception as error:  # whatever a user's forward() raises on a symbolic value
        raise ModelError(
            f"{type(model).__name__} cannot be traced: {first_line(error)}; "
            "its forward() must not branch on the input's values or shape (move such checks out of forward)"
        ) from error
    try:
        answer = propagate_shapes(graph, example)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} does not run on an input of shape {tuple(example.shape)}: "
            f"{first_line(error.__cause__ or error)}"  # torch's own error only names the graph's node
        ) from error
    if not isinstance(answer, Tensor) or answer.dim() != 2:
        raise ModelError(f"{type(model).__name__} must return one tensor of class scores, (N, classes)")
    return graph


def propagate_shapes(graph: fx.GraphModule, example: Tensor) -> object:
    """Write each node's output shape into its metadata; return the network's answer."""
    with torch.no_grad():
        answer: object = ShapeProp(graph).propagate(example)
    return answer


def shape(node: fx.Node) -> tuple[int, ...] | None:
    """Return the output shape that ``propagate_shapes`` wrote, None for what is no tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)
