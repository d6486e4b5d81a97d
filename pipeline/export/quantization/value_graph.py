"""Value graph of an ONNX file: who makes and who reads each value, and which are constant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper


@dataclass(frozen=True, eq=False)
class ValueGraph:
    """A file's graph, read once. Nodes are named by their place in it, values by their own names."""

    model: onnx.ModelProto

    @cached_property
    def nodes(self) -> Sequence[NodeProto]:
        """Nodes in the order in which they run."""
        return list(self.model.graph.node)

    @cached_property
    def constants(self) -> Mapping[str, TensorProto]:
        """Initializers by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the file takes; older files list their initializers among these."""
        return tuple(value.name for value in self.model.graph.input if value.name not in self.constants)

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of what the file gives."""
        return frozenset(value.name for value in self.model.graph.output)

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """Value → the node that makes it; none makes an input or a constant."""
        return {name: number for number, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[int]]:
        """Value → the nodes that read it."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(self.nodes):
            for name in node.input:
                found[name].append(number)
        return found

    def array(self, name: str) -> NDArray[np.generic] | None:
        """Return a constant's values; None: it is none."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_alone(self, name: str) -> bool:
        """Return whether one node reads a value, and nothing else does."""
        return len(self.readers.get(name, ())) == 1 and name not in self.outputs


def attribute(node: NodeProto, name: str, default: float) -> float:
    """Return a number among a node's attributes."""
    found = next((a for a in node.attribute if a.name == name), None)
    value = default if found is None else onnx.helper.get_attribute_value(found)
    return float(value)
