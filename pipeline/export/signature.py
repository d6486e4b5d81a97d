"""Signature of a network's file: what its inputs and outputs are called, and how the outputs make up the answer.

A file of one input and one tensor of answers calls them ``image`` and ``scores``; inputs of others are called as in
forward(), outputs by the keys that lead to them. Where values travel as one array, as to a device and back, each
example is one row: its tensors flattened, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from pipeline import structures
from pipeline.structures import Inputs

INPUT, OUTPUT = "image", "scores"
"""What a file calls its only input and its only output."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A network's inputs and outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Of the outputs, for one example; empty where shapes were not propagated."""
    answer: Any
    """The structure of the answer, each tensor's place among the outputs in its stead."""

    @property
    def is_plain(self) -> bool:
        """Whether it takes one tensor and answers with one."""
        return len(self.inputs) == 1 and self.answer == 0

    def structured(self, values: Sequence[Any]) -> Any:
        """Return the outputs as the network answers them."""
        return _structured(self.answer, values)

    def unpacked(self, rows: NDArray[np.float32]) -> Any:
        """Return rows of values, one an example, as the network answers them; raise ValueError if they do not fit."""
        sizes = [math.prod(shape) for shape in self.shapes]
        if rows.reshape(len(rows), -1).shape[1] != sum(sizes):
            raise ValueError(
                f"{rows.reshape(len(rows), -1).shape[1]} values for an example, the network answers with {sum(sizes)}"
            )
        parts = np.split(rows.reshape(len(rows), -1), np.cumsum(sizes)[:-1], axis=1)
        tensors = [
            torch.from_numpy(np.ascontiguousarray(part)).reshape(-1, *shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return self.structured(tensors)


def signature_of(network: fx.GraphModule) -> Signature:
    """Return the signature of a traced network."""
    placeholders = [node for node in network.graph.nodes if node.op == "placeholder"]
    names = [str(node.target) for node in placeholders]
    inputs = (INPUT,) if len(names) == 1 else tuple(names)
    nodes: list[fx.Node] = []
    paths: list[structures.Path] = []
    answer = _numbered(network.graph.output_node().args[0], (), nodes, paths)
    outputs = (OUTPUT,) if answer == 0 else _distinct([structures.named(path) for path in paths], inputs)
    found = [node.meta["tensor_meta"].shape for node in nodes if "tensor_meta" in node.meta]
    shapes = tuple(tuple(shape[1:]) for shape in found) if len(found) == len(nodes) else ()
    return Signature(inputs, outputs, shapes, answer)


def output_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes that make the outputs, in the order in which a file has them."""
    nodes: list[fx.Node] = []
    _numbered(network.graph.output_node().args[0], (), nodes, [])
    return nodes


def packed(inputs: Inputs) -> NDArray[np.float32]:
    """Return a batch as one array: that of its only tensor, or rows.

    >>> packed((torch.ones(2, 1, 2), torch.zeros(2, 1))).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    """
    if isinstance(inputs, Tensor):
        return inputs.numpy()
    return rows([tensor.numpy() for tensor in inputs])


def rows(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return arrays of several examples as rows, one an example."""
    return np.concatenate([part.reshape(len(part), -1) for part in values], axis=1)


def _numbered(value: Any, path: structures.Path, nodes: list[fx.Node], paths: list[structures.Path]) -> Any:
    if isinstance(value, fx.Node):
        nodes.append(value)
        paths.append(path)
        return len(nodes) - 1
    if isinstance(value, dict):
        return {key: _numbered(part, (*path, key), nodes, paths) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_numbered(part, (*path, key), nodes, paths) for key, part in enumerate(value))
    return None


def _distinct(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        while name in taken or name in found:
            name += "_"
        found.append(name)
    return tuple(found)


def _structured(answer: Any, values: Sequence[Any]) -> Any:
    if isinstance(answer, int):
        return values[answer]
    if isinstance(answer, dict):
        return {key: _structured(part, values) for key, part in answer.items()}
    return tuple(_structured(part, values) for part in answer) if isinstance(answer, tuple) else None
