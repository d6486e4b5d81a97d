"""Fault localization: the layer that cannot be exported, or whose exported answers differ."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import structures
from pipeline.errors import ExportError
from pipeline.export.onnx.operator_export import operation_of
from pipeline.export.onnx.torch_exporter import NEWEST, exported, quiet
from pipeline.export.onnx.values import Value, mapped
from pipeline.export.signature import signature_of
from pipeline.export.verify_outputs import TOLERANCE
from pipeline.structures import Inputs

_NOT_THE_USERS = re.compile(r"[/\\](?:(?:site|dist)-packages[/\\]torch[/\\]|pipeline[/\\]pruning[/\\])")
_LINE = re.compile(r'File "([^"]+)", line (\d+)')
_OPERATOR = re.compile(r"operator '?(?:aten::|prim::)?(\w+)'?")


def unwritable(network: fx.GraphModule, image: Inputs, opset: int, error: ExportError) -> str | None:
    """Return which operation of a traced network torch's exporter cannot write, and what to do; None: none by itself.

    Args:
        image: a batch of one.
        error: what the exporter said of the whole network.
    """
    for node, operation, inputs in _operations(network, image):
        names = [f"in{i}" for i in range(len(inputs))]
        try:
            exported(operation, tuple(inputs), opset, names, None)
        except ExportError as failure:
            said = str(failure).partition(": ")[2]
            found = _OPERATOR.search(said) or _OPERATOR.search(str(error))
            what = f"operator {found.group(1)}" if found else f"{node.name} ({said})"
            return f"{_place(network, node)} uses {what}, which {_advice(operation, inputs, opset)}"
    return None


def using(network: fx.GraphModule, image: Inputs, word: str) -> str | None:
    """Return the first operation of a traced network by an operator with ``word`` in its name, or in its type's."""
    run = _Listening(network)
    with torch.no_grad():
        run.run(*structures.arguments(image))
    node = next((node for node, names in run.heard.items() if any(word in name for name in names)), None)
    return None if node is None else _place(network, node)


def differing(network: fx.GraphModule, example: Inputs, opset: int) -> str | None:
    """Return the first layer whose values are other ones in a file of a traced network; None: none is found.

    Args:
        example: a batch.
    """
    together, alone = _values(network, example), _values(network, structures.part(example, 0, 1))
    for node, values in alone.items():
        if not torch.isfinite(values).all():
            return f"its values are not finite from {_place(network, node)} on"
        several = together[node]
        if len(several) == structures.count(example) > len(values) == 1 and not _close(
            several[:1].numpy(), values.numpy()
        ):
            return (
                f"{_place(network, node)} answers by all images of its batch, and a device is given one at a time: "
                f"{_batch_advice(network, node)}"
            )
    return _differing_in_the_file(network, structures.part(example, 0, 1), alone, opset)


class _Listening(fx.Interpreter):
    """Notes which of torch's own operators each operation calls."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.heard: dict[fx.Node, list[str]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and listen."""
        with _Calls() as calls:
            result = super().run_node(n)
        self.heard[n] = calls.names
        return result


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operators that are called within it, such as aten.relu.default, and of their results' types."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator, and note it with the type of what it gives."""
        result = func(*args, **(kwargs or {}))
        self.names.append(f"{func} {getattr(result, 'dtype', '')}")
        return result


def _differing_in_the_file(
    network: fx.GraphModule, image: Inputs, values: Mapping[fx.Node, Tensor], opset: int
) -> str | None:
    shown = fx.GraphModule(network, copy.deepcopy(network.graph))
    nodes = {node.name: node for node in shown.graph.nodes}
    shown.graph.output_node().args = (tuple(nodes[node.name] for node in values),)
    shown.recompile()
    try:
        names, given = signature_of(network).inputs, structures.arguments(image)
        data = exported(shown, given, opset, list(names), [f"value{i}" for i in range(len(values))])
        session = onnxruntime.InferenceSession(data.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
        found = session.run(None, {name: part.numpy() for name, part in zip(names, given, strict=True)})
    except Exception:  # onnxruntime's errors share no base; without such a file nothing can be said
        return None
    for (node, expected), other in zip(values.items(), found, strict=True):
        if other.shape != tuple(expected.shape) or not _close(other, expected.numpy()):
            return f"{_place(network, node)} gives other values in the file"
    return None


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max(initial=0.0) <= TOLERANCE * max(1.0, np.abs(expected).max(initial=0.0)))


def _values(network: fx.GraphModule, images: Inputs) -> dict[fx.Node, Tensor]:
    """Return the numbers that each operation gives, in the order in which they are worked out."""
    run = fx.Interpreter(network, garbage_collect_values=False)
    with torch.inference_mode():
        run.run(*structures.arguments(images))
    return {
        node: value for node, value in run.env.items()
        if node.op.startswith("call_") and isinstance(value, Tensor) and value.dtype == torch.float32
    }  # fmt: skip


def _operations(network: fx.GraphModule, image: Inputs) -> Iterator[tuple[fx.Node, nn.Module, list[Tensor]]]:
    """Yield each operation as a network of its own, with what comes in."""
    run = fx.Interpreter(network, garbage_collect_values=False)
    with torch.no_grad():
        run.run(*structures.arguments(image))
    values = {node: mapped(value, lambda v: Value("", v) if isinstance(v, Tensor) else v)
              for node, value in run.env.items()}  # fmt: skip
    for node in network.graph.nodes:
        if node.op.startswith("call_"):
            operation = operation_of(node, network, values)
            if operation.inputs:
                yield node, operation.run, [value.tensor for value in operation.inputs]


def _place(network: fx.GraphModule, node: fx.Node) -> str:
    """Return the layer that a node is of, and the line in which it is called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name, kind = (str(part) for part in stack[-1][:2]) if stack else ("", "")
    if node.op == "call_module":
        name, kind = str(node.target), type(network.get_submodule(str(node.target))).__name__
    lines = [(file, line) for file, line in _LINE.findall(node.stack_trace or "") if not _NOT_THE_USERS.search(file)]
    where = f", {lines[-1][0]}:{lines[-1][1]}" if lines else ""
    layer = f"layer {name!r}" if name else "the network's forward()"
    kind = kind.rpartition(".")[2].rstrip("'>")
    return f"{layer} ({kind}{where})" if name else f"{layer}{where and f' ({where[2:]})'}"


def _batch_advice(network: fx.GraphModule, node: fx.Node) -> str:
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, nn.modules.batchnorm._NormBase) and not layer.track_running_stats:
        return "it keeps no running statistics; make and train it with track_running_stats=True"
    return "let it answer each image by itself"


def _advice(operation: nn.Module, inputs: list[Tensor], opset: int) -> str:
    names = [f"in{i}" for i in range(len(inputs))]
    for newer in range(opset + 1, NEWEST + 1):
        try:
            exported(operation, tuple(inputs), newer, names, None)
        except ExportError:
            continue
        return (
            f"ONNX has from opset {newer} on, and the device's runtime loads up to opset {opset}: bring a newer "
            "runtime to the device, or express it by other operators"
        )
    return "torch cannot write as ONNX: express it by operators that ONNX has"
