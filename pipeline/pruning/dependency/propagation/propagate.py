"""Propagation: run a traced network once, with a real image, and apply each operator's rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from pipeline import structures
from pipeline.errors import first_line
from pipeline.pruning.complexity import layer_name
from pipeline.pruning.dependency.propagation import constants, elementwise, layers, reshaping, spatial
from pipeline.pruning.dependency.propagation.call import Call, WholeWeight, neutral
from pipeline.pruning.dependency.propagation.labels import PropagationState, UnsupportedOperatorError, spread
from pipeline.pruning.tracing.operators import operator_name
from pipeline.pruning.tracing.source_line import origin
from pipeline.structures import Inputs

Rule = Callable[[Call], Any]

RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.ARITHMETIC, elementwise.arithmetic),
    **dict.fromkeys(spatial.POOLING, spatial.pooling),
    **dict.fromkeys(spatial.REDUCTIONS, spatial.reduction),
    **dict.fromkeys(spatial.MIXING, spatial.mixing),
    **dict.fromkeys(reshaping.PLAIN, reshaping.plain),
    **dict.fromkeys(reshaping.PADDING, reshaping.padded),
    **dict.fromkeys(("view", "reshape", "unflatten"), reshaping.sized),
    **dict.fromkeys(("expand", "broadcast_to"), reshaping.expanded),
    **dict.fromkeys(("cat", "concat", "concatenate"), reshaping.concatenated),
    **dict.fromkeys(
        ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split"), reshaping.split
    ),
    **dict.fromkeys(
        (f"{new}{kind}" for new in ("", "new_") for kind in ("empty", "full", "ones", "zeros")), constants.filled
    ),
    **dict.fromkeys(("max", "min"), spatial.extreme),
    "narrow": reshaping.narrowed,
    "select": reshaping.selected,
    "glu": reshaping.gated,
    **dict.fromkeys(("repeat", "repeat_interleave", "tile"), reshaping.repeated),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), layers.convolution),
    **dict.fromkeys((f"convtranspose{n}d" for n in (1, 2, 3)), layers.transposed),
    **dict.fromkeys((f"conv_transpose{n}d" for n in (1, 2, 3)), layers.transposed),
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "batchnorm3d", "batch_norm"), layers.batch_norm),
    **dict.fromkeys(("instancenorm1d", "instancenorm2d", "instancenorm3d", "instance_norm"), layers.instance_norm),
    **dict.fromkeys(("groupnorm", "group_norm"), layers.group_norm),
    **dict.fromkeys(("layernorm", "layer_norm", "layernorm2d"), layers.layer_norm),
    "getitem": reshaping.indexed,
    "linear": layers.linear,
    "prelu": layers.prelu,
    **dict.fromkeys(spatial.PRODUCTS, spatial.product),
    "stack": reshaping.stacked,
    "unbind": reshaping.unbound,
}
"""Functions, methods and modules by name: see ``Call.name``."""
OF_WEIGHTS = frozenset(name for name, rule in RULES.items() if rule.__module__ == layers.__name__)
"""They take weights as such; to all others a weight is a tensor that meets channels element by element."""


def propagate(network: fx.GraphModule, example: Inputs, within: frozenset[str] = frozenset()) -> PropagationState:
    """Return the propagation state of a traced network in eval mode: labels, couplings, frozen channels.

    Args:
        network: not changed.
        example: a batch, of which the first example is run.
        within: weights of grouped convolutions whose groups are cut within, all alike, and not one by one.
    """
    interpreter = _Propagation(network)
    interpreter.state.within = within
    with torch.no_grad():
        interpreter.run(*structures.arguments(structures.part(example, 0, 1)))
    return interpreter.state


class _Propagation(fx.Interpreter):
    """An interpreter that propagates labels beside the values."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.state = layers.initial_state(network)
        self._marks: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and label its result."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        result = getattr(self, n.op)(n.target, args, kwargs)
        self._marks[n] = self._labelled(n, args, kwargs, result)
        return result

    def _labelled(self, n: fx.Node, args: Any, kwargs: Any, result: Any) -> Any:
        marks = fx.node.map_arg(n.args, lambda a: self._marks[a])
        keyword_marks = fx.node.map_arg(n.kwargs, lambda a: self._marks[a])
        if n.op == "placeholder":
            return self._frozen(result, "it is the network's input")
        if n.op == "get_attr":
            return WholeWeight() if isinstance(result, Tensor) else None
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        call = Call(operator_name(self.module, n), n, module, args, kwargs, marks, keyword_marks, result, self.state)
        if n.op == "output":
            self._freeze_arguments(call, "it makes the output")
            return None
        return self._propagated(call)

    def _propagated(self, call: Call) -> Any:
        if not isinstance(call.result, (Tensor, tuple, list)) or isinstance(call.result, torch.Size):
            return None  # a shape, a number: it follows the cut by itself
        if call.name in spatial.PRODUCTS and _weights_alone(call.node, call) is None and (layer := _layer_of(call)):
            self.state.opaque.setdefault(layer, spatial.may_mix_channels(call))
        try:
            return _apply_rule(call)
        except UnsupportedOperatorError as error:
            where = origin(call.node)
            reason = f"{error} (in {where})" if where else str(error)
        self._freeze_arguments(call, reason)
        self.state.unknown.add(reason)
        if layer := _layer_of(call):
            self.state.opaque.setdefault(layer, reason)
        return fx.node.map_aggregate(call.result, lambda r: self._frozen(r, reason))

    def _freeze_arguments(self, call: Call, reason: str) -> None:
        for _, labels in call.tensors():
            self.state.freeze(labels, reason)

    def _frozen(self, value: Any, reason: str) -> Any:
        """Return new labels, a channel each, that have to stay."""
        if not isinstance(value, Tensor):
            return None
        if value.dim() < 2:
            return neutral(tuple(value.shape))
        labels = self.state.fresh(value.shape[1])
        self.state.freeze(labels, reason)
        return spread(labels, 1, tuple(value.shape))


def _layer_of(call: Call) -> str:
    """Return the layer that an operator is, by its weights; empty for one without."""
    if call.module is not None:
        return str(call.node.target) if any(True for _ in call.module.parameters()) else ""
    if call.name not in OF_WEIGHTS and call.name not in spatial.PRODUCTS:
        return ""
    held: dict[str, Tensor] = {}
    for source in call.node.all_input_nodes:
        held |= _weights_alone(source, call) or {}
    return layer_name(held) if held else ""


def _weights_alone(node: fx.Node, call: Call) -> dict[str, Tensor] | None:
    """Return the weights that a node is computed of; None where an image has a part in it."""
    if node.op == "get_attr":
        return {str(node.target): call.value_of(node)}
    if node.op == "placeholder":
        return None
    held: dict[str, Tensor] = {}
    for source in node.all_input_nodes:
        if (found := _weights_alone(source, call)) is None:
            return None
        held |= found
    return held


def _apply_rule(call: Call) -> Any:
    """Return the labels of an operator's result.

    Raises:
        UnsupportedOperatorError: there is no rule, it does not apply, or it fails: none may end a run.
    """
    rule = RULES.get(call.name)
    if rule is None:
        raise UnsupportedOperatorError(f"{call.name} is not supported")
    try:
        labels = rule(call if call.name in OF_WEIGHTS else call.resolved())
    except UnsupportedOperatorError:
        raise
    except Exception as error:  # a rule that meets what nobody thought of
        raise UnsupportedOperatorError(f"{call.name} is not supported here: {first_line(error)}") from error
    if not _fit(labels, call.result):
        raise UnsupportedOperatorError(
            f"{call.name} is not supported here: it gives another shape than its rule expects"
        )
    return labels


def _fit(labels: Any, result: Any) -> bool:
    """Return whether there is a label for each value of a result."""
    if isinstance(result, Tensor):
        return isinstance(labels, Tensor) and labels.shape == result.shape
    if isinstance(result, (tuple, list)):
        return isinstance(labels, (tuple, list)) and all(map(_fit, labels, result)) and len(labels) == len(result)
    return True
