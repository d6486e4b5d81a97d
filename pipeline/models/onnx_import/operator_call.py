"""One operator of an ONNX file as the rules see it: its inputs, its attributes, and the graph that they write into."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.models.onnx_import.graph_builder import Constant, GraphBuilder, Made


class UnfitError(Exception):
    """An operator that torch's are not made of, or not in this way; the message says what about it."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operator of the file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    """Empty names: left out."""
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An operator that is converted."""

    node: Node
    inputs: tuple[Constant | Made | None, ...]
    build: GraphBuilder
    opset: int

    def has(self, place: int) -> bool:
        """Return whether there is an input at that place."""
        return len(self.inputs) > place and self.inputs[place] is not None

    def tensor(self, place: int) -> Made:
        """Return an input as a value of the graph; a constant becomes a weight or a buffer."""
        found = self.inputs[place] if self.has(place) else None
        if found is None:
            raise UnfitError(f"it lacks its input {place}")
        if isinstance(found, Made):
            return found
        name = self.node.inputs[place]
        own = "." in name and "::" not in name and "/" not in name
        return self.build.weight(name if own else "constant", found, trained=own and found.dtype.kind == "f")

    def constant(self, place: int) -> Constant:
        """Return an input that has to be known."""
        found = self.inputs[place] if self.has(place) else None
        if not isinstance(found, np.ndarray):
            raise UnfitError(f"its input {place} ({self.node.inputs[place]}) is computed from the image")
        return found

    def optional(self, place: int) -> Constant | None:
        """Return an input that has to be known where there is one."""
        return self.constant(place) if self.has(place) else None

    def is_of_images(self, value: Made, dim: int) -> bool:
        """Return whether a dimension is that of the images: the first, unless it has another size."""
        return dim == 0 and value.shape[0] == self.build.batch

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, by its Python type."""
        return self.node.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a word."""
        found = self.attribute(name, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def integers(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that older operator sets have as an attribute and newer ones as an input."""
        if (given := self.attribute(name)) is not None:
            return [int(number) for number in given]
        found = self.optional(place)
        return None if found is None else [int(number) for number in found.reshape(-1)]

    def path(self, place: int = 1) -> str:
        """Return a name for the operator's layer: that of its weights, or of its place in the network.

        Args:
            place: of the weights among the inputs.
        """
        weights = self.node.inputs[place] if len(self.node.inputs) > place else ""
        if weights.endswith(".weight"):
            return weights.removesuffix(".weight")
        return scope(self.node.name, self.node.kind) or self.node.kind.lower()


def scope(name: str, kind: str) -> str:
    """Return the layer's dotted path that an exporter wrote into a node's name.

    >>> scope("/layer1/layer1.0/conv1/Conv_2", "Conv"), scope("Conv_12", "Conv"), scope("", "Conv")
    ('layer1.0.conv1', 'conv_12', '')
    """
    *around, own = [part for part in name.split("/") if part] or [""]
    if not around or not re.fullmatch(rf"{kind}(_\d+)?", own):
        around = [*around, own.lower() if re.fullmatch(rf"{kind}(_\d+)?", own) else own]
    path: list[str] = []
    for part in around:
        if path and part.startswith(f"{path[-1]}."):  # a container's item is called by both names
            path.pop()
        path.append(part)
    return ".".join(path)
