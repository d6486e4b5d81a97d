"""Shape inference: the network run on meta tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional

from pipeline import structures
from pipeline.errors import first_line
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.onnx.values import mapped
from pipeline.structures import Inputs

_SAME_SHAPE = frozenset(
    {
        nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
        nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.Tanh,
    }
)  # fmt: skip
"""Modules whose rules for shapes torch works out in Python, up to 1 ms each; ONNX's own rules are held against them."""
_SAME_SHAPE_FUNCTIONS = frozenset({functional.relu, functional.relu6, functional.hardswish, torch.relu, torch.sigmoid})
_FILLED: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("zeros_like", "new_zeros", "empty_like", "new_empty"), lambda _, __: 0),
    **dict.fromkeys(("ones_like", "new_ones"), lambda _, __: 1),
    "full_like": lambda args, kwargs: args[1] if len(args) > 1 else kwargs["fill_value"],
    "new_full": lambda args, kwargs: args[2] if len(args) > 2 else kwargs["fill_value"],
}
"""Operators whose results are constants, as large as an image's → the number that they are filled with."""


def dry_run(network: fx.GraphModule, example: Inputs) -> Mapping[fx.Node, Any]:
    """Return what each node gives for one of ``example``: numbers, tensors of the device "meta", or tuples of them.

    What does not depend on the image, a parameter and what is computed of parameters alone, is a tensor with values.

    Raises:
        FastPathUnsupportedError: an operation cannot be run without values.
    """
    run = _DryRun(network)
    try:
        with torch.no_grad():
            run.run(*(torch.empty_like(part[:1], device="meta") for part in structures.arguments(example)))
    except Exception as error:  # torch raises whatever an operator does that has no rule for shapes
        cause = first_line(error.__cause__ or error)
        raise FastPathUnsupportedError(f"its shapes are not known without running it: {cause}") from error
    return run.env


class _DryRun(fx.Interpreter):
    """Runs what depends on the image on shapes, all else on values."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network, garbage_collect_values=False)
        self._depends: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and note whether it depends on the image."""
        if n.op == "placeholder" or any(source in self._depends for source in n.all_input_nodes):
            self._depends.add(n)
        result = super().run_node(n)
        name = n.target if n.op == "call_method" else getattr(n.target, "__name__", "")
        if n.op not in ("call_function", "call_method") or (value := _FILLED.get(str(name))) is None:
            return result
        self._depends.discard(n)  # only its size is the image's
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return torch.full(tuple(result.shape), value(args, kwargs), dtype=result.dtype)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Return a node's arguments, without values where the image is among them."""
        arguments = super().fetch_args_kwargs_from_env(n)
        return mapped(arguments, _shape_only) if n in self._depends else arguments

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a function; on shapes, some are not worth the call."""
        if target in _SAME_SHAPE_FUNCTIONS and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return super().call_function(target, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a module, on shapes with weights that are shapes, too."""
        module = self.submodules[target]
        if not any(isinstance(a, Tensor) and a.is_meta for a in args):
            return module(*args, **kwargs)
        if type(module) in _SAME_SHAPE:
            return args[0]
        state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
        return functional_call(module, state, args, kwargs) if state else module(*args, **kwargs)


def _shape_only(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
