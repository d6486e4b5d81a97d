"""Structure fingerprint: networks that differ in weights alone share it, and their latency.

The same channels cut in other places is another structure; one block removed or another of the same shape beside it is
the same. So a board measures once what many plans come to.
"""

from __future__ import annotations

import hashlib
import itertools

import torch
from torch import Tensor, fx, nn


def structure(network: fx.GraphModule) -> str:
    """Return a digest of a traced network's operations, their settings, shapes and connections, in order.

    Names and values of weights do not count. A module of a class that is not torch's own counts as itself: what its
    settings are is not known.

    >>> def digest(width, seed):
    ...     torch.manual_seed(seed)
    ...     return structure(fx.symbolic_trace(nn.Sequential(nn.Linear(3, width), nn.ReLU())))
    >>> digest(4, seed=0) == digest(4, seed=1), digest(4, seed=0) == digest(5, seed=0)
    (True, False)
    """
    places: dict[fx.Node, str] = {}
    numbers = itertools.count()
    digest = hashlib.sha256()
    for node in network.graph.nodes:
        if _hands_on(network, node):  # no format writes it
            places[node] = places[node.all_input_nodes[0]]
            continue
        places[node] = f"%{next(numbers)}"
        read = fx.node.map_arg((node.args, node.kwargs), places.__getitem__)
        digest.update(f"{places[node]} {node.op} {_what(network, node)} {read}\n".encode())
    return digest.hexdigest()[:16]


def _hands_on(network: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is what a removed block leaves behind: a module that gives what it gets."""
    return node.op == "call_module" and type(network.get_submodule(str(node.target))) is nn.Identity


def _what(network: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return _module(network.get_submodule(str(node.target)), str(node.target))
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(network.get_submodule(owner), name)
        return _shape(value) if isinstance(value, Tensor) else str(node.target)
    if node.op == "call_function":
        return torch.typename(node.target)
    return str(node.target) if node.op == "call_method" else ""


def _module(module: nn.Module, name: str) -> str:
    own = all(type(part).__module__.startswith("torch.nn.") for part in module.modules())
    tensors = [f"{key} {_shape(value)}" for key, value in module.state_dict().items()]
    return f"{module!r} {tensors}" if own else f"{name} {tensors}"


def _shape(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
