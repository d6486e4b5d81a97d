"""A torch.fx graph that is written node by node and computed at once, so that each value's shape is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

Constant: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A value that depends on the image, or stands for a weight of the graph."""

    node: fx.Node
    value: Any
    """Of the images that the graph is written with: a tensor, or a tuple of tensors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's."""
        return tuple(self.value.shape)


class GraphBuilder:
    """Writes calls into a graph and runs them."""

    def __init__(self, images: Tensor) -> None:
        """Begin a network.

        Args:
            images: what the input is while the graph is written.
        """
        self.batch = len(images)
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._taken: set[str] = set()
        self._around: set[str] = set()
        self._shared: dict[object, str] = {}
        self._trained: dict[str, Made] = {}
        self.image = Made(self._graph.placeholder("image"), images)

    def network(self, output: Made | tuple[Made, ...]) -> fx.GraphModule:
        """Return the finished network in eval mode."""
        self._graph.output(_nodes(output))
        network = fx.GraphModule(self._root, self._graph, "OnnxNetwork").eval()
        network.graph.eliminate_dead_code()
        network.delete_all_unused_submodules()
        network.recompile()
        return network

    def function(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Made:
        """Call a function; values may stand anywhere among its arguments."""
        node = self._graph.call_function(target, _nodes(args), _nodes(kwargs))
        return Made(node, target(*_values(args), **_values(kwargs)))

    def method(self, name: str, value: Made, *args: Any) -> Made:
        """Call a tensor's method."""
        node = self._graph.call_method(name, (value.node, *_nodes(args)))
        return Made(node, getattr(value.value, name)(*_values(args)))

    def layer(self, path: str, value: Made, make: Callable[[], nn.Module], shared: object = None) -> Made:
        """Call a layer.

        Args:
            path: its dotted name, if nothing has that yet.
            make: gives the layer.
            shared: what is equal for two calls of one and the same layer; None: it is called once.
        """
        name = self._shared.get(shared) if shared is not None else None
        if name is None:
            name = self._put(path, make().eval())
            if shared is not None:
                self._shared[shared] = name
        return Made(self._graph.call_module(name, (value.node,)), self._root.get_submodule(name)(value.value))

    def weight(self, path: str, values: Constant, *, trained: bool) -> Made:
        """Return values that belong to no layer: a parameter, or a buffer where they are not trained."""
        if trained and path in self._trained:  # several operators read it
            return self._trained[path]
        tensor = tensor_of(values)
        name = self._put(path, nn.Parameter(tensor) if trained else tensor)
        made = Made(self._graph.get_attr(name), tensor)
        if trained:
            self._trained[path] = made
        return made

    def images(self, value: Made) -> Made:
        """Return the number of images, as a number that the graph computes."""
        return Made(self._graph.call_method("size", (value.node, 0)), value.value.shape[0])

    def _put(self, path: str, value: nn.Module | Tensor) -> str:
        """Hold a layer, parameter or buffer under a name that is free; return that."""
        name = self._free(_identifiers(path))
        parent, _, own = name.rpartition(".")
        holder = self._root
        for part in parent.split(".") if parent else ():
            if not hasattr(holder, part):
                holder.add_module(part, nn.Module())
            holder = getattr(holder, part)
        if isinstance(value, nn.Module):
            holder.add_module(own, value)
        elif isinstance(value, nn.Parameter):
            holder.register_parameter(own, value)
        else:
            holder.register_buffer(own, value)
        self._taken.add(name)
        self._around |= _ancestors(name)
        return name

    def _free(self, path: str) -> str:
        if _ancestors(path) & self._taken:  # a layer of torch's own cannot hold others
            path = path.replace(".", "_")
        number, name = 1, path
        while name in self._taken or name in self._around:
            number += 1
            name = f"{path}_{number}"
        return name


def tensor_of(values: Constant) -> Tensor:
    """Return a constant as a tensor of its own; floats are float32."""
    floating = np.issubdtype(values.dtype, np.floating)
    return torch.from_numpy(np.array(values, dtype=np.float32 if floating else values.dtype))


def _identifiers(path: str) -> str:
    """Return a dotted path of names that a module's attributes can have.

    >>> _identifiers("block/1.conv-0.forward")
    'block_1.conv-0.forward_'
    """
    parts = [re.sub(r"[^\w-]", "_", part) for part in path.split(".")]
    return ".".join(
        f"{part}_" if not part or hasattr(nn.Module, part) or part == "training" else part for part in parts
    )


def _ancestors(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def _nodes(structure: Any) -> Any:
    return map_aggregate(structure, lambda value: value.node if isinstance(value, Made) else value)


def _values(structure: Any) -> Any:
    return map_aggregate(structure, lambda value: value.value if isinstance(value, Made) else value)
