"""A network as torch.export records it, written back as symbolic tracing would have recorded it.

torch.export runs forward() on tensors without values, so whatever Python does with tensors (loops over their pieces,
``isinstance``, item assignment, scripted functions) is followed; what in-place operators do to other views becomes
functions. The result is written as the graph of modules and public functions that the rest of the package knows:
torch's own layers become calls of the modules again, which train, scale and shrink as such; the remaining ATen
operators go by the closed list in ``aten``.

Seconds on one core of an x86-64 with busy neighbours, at 224 px: ResNet-18 1.9, ConvNeXt-Tiny 4.3, ViT-B/32 6.0,
ShuffleNetV2 6.7, GoogLeNet 7.0, EfficientNet-B0 7.3, MobileNetV2 9.1, DenseNet-121 and Swin-T 11; ten layers 0.3 to
0.8, and 1.5 more for the first of a process. Symbolic tracing took 0.03 to 0.14, so this is the second way (see
``tracing``). Answers were equal for each of them, and what can be cut was the same or more.
"""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from pipeline import structures
from pipeline.pruning.tracing.aten import is_rewritten, operator_of, rewritten
from pipeline.structures import Inputs


def exported(network: nn.Module, example: Inputs, known: Container[str]) -> fx.GraphModule:
    """Return ``network`` as a graph for any number of images; parameter names stay what they were.

    Args:
        network: in eval mode; not changed.
        example: a batch of at least two, since one is taken for a size that never changes.
        known: names of operators to keep as they are; others are made of simpler ones.

    Raises:
        Exception: whatever torch.export raises where forward() cannot be recorded.
    """
    with _quiet(), _symbolic_len(), torch.no_grad():
        inputs = structures.arguments(example)
        sizes = tuple({0: Dim.AUTO} for _ in inputs)
        program = torch.export.export(network, inputs, dynamic_shapes=sizes, strict=False)
        program = program.run_decompositions(_decompositions(known))
    return _Rewriter(network, program).graph_module()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch.export from printing what it could not follow: the error says it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _symbolic_len() -> Iterator[None]:
    """Let ``len(images)`` be the symbol that ``images.shape[0]`` is: Python's own would fix the number of images."""
    own = builtins.len
    builtins.len = lambda value: value.shape[0] if isinstance(value, Tensor) and value.dim() else own(value)
    try:
        yield
    finally:
        builtins.len = own


def _decompositions(known: Container[str]) -> dict[Any, Any]:
    """Return how operators that are neither known nor rewritten are made of others."""
    decompositions = torch.export.default_decompositions().items()  # type: ignore[no-untyped-call]
    return {
        target: made
        for target, made in decompositions
        if isinstance(target, torch._ops.OpOverload)
        and operator_of(target).strip("_") not in known
        and not is_rewritten(operator_of(target))
    }


@dataclass(frozen=True, slots=True)
class _LayerCall:
    """Operators that one of torch's own layers was recorded as."""

    layer: str
    """The module's qualified name."""
    nodes: frozenset[fx.Node]
    source: fx.Node
    result: fx.Node


@dataclass(slots=True)
class _Rewriter:
    """Writes an exported program into a graph of the network's own modules and public functions."""

    network: nn.Module
    program: ExportedProgram
    graph: fx.Graph = field(default_factory=fx.Graph)
    made: dict[fx.Node, Any] = field(default_factory=dict)
    """Node of the program → what stands for it."""

    def graph_module(self) -> fx.GraphModule:
        """Return the graph with the modules and parameters that it uses."""
        old = self.program.graph_module.graph
        calls = {call.result: call for call in _layer_calls(old, self.network)}
        inside = frozenset[fx.Node]().union(*(call.nodes for call in calls.values()))
        names = self._names()
        for node in old.nodes:
            before = len(self.graph.nodes)
            if node.op == "placeholder":
                self._hold(node, names)
            elif node in calls:
                call = calls[node]
                self.made[node] = self.graph.call_module(call.layer, (self.made[call.source],))
            elif node.op == "call_function" and node not in inside:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._standing_for)
                self.made[node] = rewritten(self.graph, node, args, kwargs)
            for new in list(self.graph.nodes)[before:]:
                new.stack_trace = node.stack_trace
        self.graph.output(self._answer(old.output_node()))
        graph = fx.GraphModule(self.network, self.graph, type(self.network).__name__)
        graph.graph.eliminate_dead_code()
        graph.delete_all_unused_submodules()
        graph.recompile()
        for module in graph.modules():
            if getattr(module, "inplace", False):  # each result is a value of its own here
                module.inplace = False  # type: ignore[assignment]
        return graph

    def _names(self) -> Mapping[str, str]:
        """Return the qualified name of each parameter and buffer by its placeholder's; constants become buffers."""
        signature = self.program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        for i, (placeholder, constant) in enumerate(signature.inputs_to_lifted_tensor_constants.items()):
            names[placeholder] = f"_tensor_constant{i}"
            self.network.register_buffer(names[placeholder], self.program.constants[constant].detach())
        return names

    def _hold(self, node: fx.Node, names: Mapping[str, str]) -> None:
        if node.name in names:
            if node.users:
                self.made[node] = self.graph.get_attr(names[node.name])
        else:
            self.made[node] = self.graph.placeholder(node.name)

    def _standing_for(self, node: fx.Node) -> Any:
        return self.made[node]

    def _answer(self, output: fx.Node) -> Any:
        """Return what forward() returns, in its own structure, as dictionaries and tuples."""
        specs = self.program.graph_signature.output_specs
        flat: Sequence[Any] = output.args[0]  # type: ignore[assignment]
        values = [
            self.made[value] if isinstance(value, fx.Node) else value
            for value, spec in zip(flat, specs, strict=True)
            if spec.kind is OutputKind.USER_OUTPUT
        ]
        signature = self.program.module_call_graph[0].signature
        assert signature is not None  # the network itself is always called
        return _plain(pytree.tree_unflatten(values, signature.out_spec))


def _plain(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        return {key: _plain(value) for key, value in answer.items()}
    if isinstance(answer, (tuple, list)):
        return tuple(_plain(value) for value in answer)
    return answer


def _layer_calls(graph: fx.Graph, network: nn.Module) -> Iterator[_LayerCall]:
    """Yield the calls of torch's own layers that take one tensor and give one."""
    modules = dict(network.named_modules(remove_duplicate=False))
    functions = [node for node in graph.nodes if node.op == "call_function"]
    for call, nodes in groupby(functions, lambda node: _called_layer(node, modules)):
        layer, inside = call.partition("@")[0], frozenset(nodes)
        if not layer or not _takes_one(modules[layer]):
            continue
        read = {source for node in inside for source in node.all_input_nodes if source not in inside}
        sources = [source for source in read if source.op != "placeholder" or _is_input(source)]
        results = [node for node in inside if any(user not in inside for user in node.users)]
        tensors = [source for source in sources if isinstance(source.meta.get("val"), Tensor)]
        if len(tensors) == 1 and len(results) == 1 and isinstance(results[0].meta.get("val"), Tensor):
            yield _LayerCall(layer, inside, tensors[0], results[0])


def _called_layer(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return the outermost of torch's own layers whose call a node belongs to, empty where there is none.

    A layer's second call is ``name@1``.
    """
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        module = modules.get(path.partition("@")[0])
        if module is not None and type(module).__module__.startswith("torch.nn") and not _is_container(module):
            return str(path)
    return ""


def _takes_one(module: nn.Module) -> bool:
    """Return whether a layer can be called with one tensor alone; attention takes three."""
    parameters = inspect.signature(module.forward).parameters.values()
    return sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) == 1


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def _is_input(placeholder: fx.Node) -> bool:
    return not placeholder.name.startswith(("p_", "b_", "c_"))
