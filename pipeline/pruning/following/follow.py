"""Walk through a traced network once, with a real image, and apply each operator's rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from pipeline.pruning.following import elementwise, layers, movement, spatial
from pipeline.pruning.following.book import Book, NotFollowedError, spread
from pipeline.pruning.following.call import Call, Held, neutral
from pipeline.pruning.operators import operator_name

Rule = Callable[[Call], Any]

RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.ARITHMETIC, elementwise.arithmetic),
    **dict.fromkeys(spatial.POOLING, spatial.pooling),
    **dict.fromkeys(spatial.REDUCTIONS, spatial.reduction),
    **dict.fromkeys(spatial.MIXING, spatial.mixing),
    **dict.fromkeys(movement.PLAIN, movement.plain),
    **dict.fromkeys(movement.PADDING, movement.padded),
    **dict.fromkeys(("view", "reshape", "unflatten"), movement.sized),
    **dict.fromkeys(("expand", "broadcast_to"), movement.expanded),
    **dict.fromkeys(("cat", "concat", "concatenate"), movement.concatenated),
    **dict.fromkeys(("split", "chunk"), movement.split),
    **dict.fromkeys(("repeat", "repeat_interleave", "tile"), movement.repeated),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), layers.convolution),
    **dict.fromkeys((f"convtranspose{n}d" for n in (1, 2, 3)), layers.transposed),
    **dict.fromkeys((f"conv_transpose{n}d" for n in (1, 2, 3)), layers.transposed),
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "batchnorm3d", "batch_norm"), layers.batch_norm),
    **dict.fromkeys(("instancenorm1d", "instancenorm2d", "instancenorm3d", "instance_norm"), layers.instance_norm),
    **dict.fromkeys(("groupnorm", "group_norm"), layers.group_norm),
    **dict.fromkeys(("layernorm", "layer_norm", "layernorm2d"), layers.layer_norm),
    "getitem": movement.indexed,
    "linear": layers.linear,
    "prelu": layers.prelu,
    "stack": movement.stacked,
    "unbind": movement.unbound,
}
"""Functions, methods and modules by name: see ``Call.name``."""
OF_WEIGHTS = frozenset(name for name, rule in RULES.items() if rule.__module__ == layers.__name__)
"""They take weights as such; to all others a weight is a tensor that meets channels element by element."""


def follow(network: fx.GraphModule, example: Tensor, within: frozenset[str] = frozenset()) -> Book:
    """Return what is known of the channels of a traced network in eval mode.

    Args:
        network: not changed.
        example: images (N, C, H, W), of which the first is run.
        within: weights of grouped convolutions whose groups are cut within, all alike, and not one by one.
    """
    walk = _Walk(network)
    walk.book.within = within
    with torch.no_grad():
        walk.run(example[:1])
    return walk.book


class _Walk(fx.Interpreter):
    """An interpreter that carries labels beside the values."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.book = layers.held(network)
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
            return self._pinned(result, "it is the network's input")
        if n.op == "get_attr":
            return Held() if isinstance(result, Tensor) else None
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        call = Call(operator_name(self.module, n), n, module, args, kwargs, marks, keyword_marks, result, self.book)
        if n.op == "output":
            self._pin_arguments(call, "it makes the output")
            return None
        return self._ruled(call)

    def _ruled(self, call: Call) -> Any:
        if not isinstance(call.result, (Tensor, tuple, list)) or isinstance(call.result, torch.Size):
            return None  # a shape, a number: it follows the cut by itself
        rule = RULES.get(call.name)
        try:
            if rule is None:
                raise NotFollowedError(f"{call.name} is not followed")
            return rule(call if call.name in OF_WEIGHTS else call.resolved())
        except NotFollowedError as error:
            reason = str(error)
        self._pin_arguments(call, reason)
        if call.module is not None and any(True for _ in call.module.parameters()):
            self.book.whole[str(call.node.target)] = reason
        return fx.node.map_aggregate(call.result, lambda r: self._pinned(r, reason))

    def _pin_arguments(self, call: Call, reason: str) -> None:
        for _, labels in call.tensors():
            self.book.pin(labels, reason)

    def _pinned(self, value: Any, reason: str) -> Any:
        """Return new labels, a channel each, that have to stay."""
        if not isinstance(value, Tensor):
            return None
        if value.dim() < 2:
            return neutral(tuple(value.shape))
        labels = self.book.fresh(value.shape[1])
        self.book.pin(labels, reason)
        return spread(labels, 1, tuple(value.shape))

    def _neutral(self, value: Any) -> Any:
        return fx.node.map_aggregate(value, lambda v: neutral(tuple(v.shape)) if isinstance(v, Tensor) else None)
