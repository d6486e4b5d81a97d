"""torch.fx tracer: sizes are concrete where forward() asks for them, the rest stays symbolic.

Where forward() needs a number (a branch, ``range``, ``len``, ``int``), it is computed for the example, as long as it
follows from sizes alone; everything else is recorded, so that a view of ``x.size(1)`` still fits after a cut. What
branches on values cannot be recorded: the smallest module around it is called as a whole instead.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from itertools import dropwhile
from traceback import StackSummary
from typing import Any

from torch import Tensor, fx, nn, no_grad

from pipeline import structures
from pipeline.errors import first_line
from pipeline.pruning.tracing.source_line import is_torchs, note_line
from pipeline.structures import Inputs

_SIZES = frozenset(
    {"shape", "size", "ndim", "dim", "ndimension", "numel", "nelement", "stride", "dtype", "device", "layout"}
    | {"is_cuda", "is_floating_point", "is_contiguous", "requires_grad", "is_quantized", "is_sparse", "is_complex"}
)
"""What may be asked of a tensor without reading its values."""


class Value(fx.Proxy):
    """A recorded value; Python's own questions about numbers are answered from the example."""

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim"):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(_tracer(self).known(self.node))

    def __int__(self) -> int:
        return int(_tracer(self).known(self.node))

    def __index__(self) -> int:
        return int(_tracer(self).known(self.node).__index__())

    def __float__(self) -> float:
        return float(_tracer(self).known(self.node))


class Tracer(fx.Tracer):
    """Records forward() with its first arguments as the inputs and all others at their defaults."""

    def __init__(self, example: Inputs) -> None:
        super().__init__()
        self.whole: dict[str, str] = {}
        """Modules that are called as a whole → why they could not be traced."""
        self.record_stack_traces = True  # an export that fails says in which line
        self._example = structures.arguments(example)
        self._interpreter: fx.Interpreter | None = None
        self._computing = False

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,  # noqa: ARG002 - fx's signature
        concrete_args: object = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """Make a placeholder for each input, under its name in forward()."""
        known = inspect.signature(root_fn).parameters.values()
        names = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
        names += [f"x{i}" if i else "x" for i in range(len(names), len(self._example))]
        return root_fn, [
            self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names[: len(self._example)])
        ]  # fmt: skip

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record a node, and the line of forward() that it comes from."""
        node = super().create_node(*args, **kwargs)
        note_line(node)
        return node

    def _filter_traceback_frames(self, user_stack_summary: StackSummary) -> StackSummary:
        """Keep the frames of forward() alone; to know its own files, torch would import its compilers: a second."""
        inside = dropwhile(lambda frame: frame.name != "forward", user_stack_summary)
        return StackSummary.from_list([frame for frame in inside if not is_torchs(frame.filename)])

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what forward() gets to see of a node."""
        return Value(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answer a branch on sizes; raise TraceError for one on values."""
        return bool(self.known(obj.node))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over what has a known length."""
        return iter(
            [
                self.create_proxy("call_function", operator.getitem, (obj, i), {})
                for i in range(len(self.known(obj.node)))
            ]
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Hand out parameters themselves while sizes are computed, recorded ones otherwise."""
        return attr_val if self._computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a module's inside, or the module as a whole where its inside cannot be recorded."""
        if self._computing or m not in (self.submodule_paths or {}):  # a slice, or a layer made on the fly
            return forward(*args, **kwargs)
        before, stack = len(self.graph.nodes), self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever a user's forward() raises on a symbolic value
            name = self.path_of_module(m)
            if not name:  # the network itself, calling itself
                raise
            self.whole[name] = first_line(error)
            self.module_stack = stack
            self._forget_after(before)
            return self.create_proxy("call_module", name, args, kwargs)

    def known(self, node: fx.Node) -> Any:
        """Return a node's value for the example where it follows from sizes alone; TraceError where it does not."""
        env = self._computed(node)
        if not _from_sizes(node, env):
            raise fx.proxy.TraceError("its forward() branches on values that only an image decides")
        return env[node]

    def _computed(self, wanted: fx.Node) -> dict[fx.Node, Any]:
        if self._interpreter is None:
            self._interpreter = fx.Interpreter(self.root, garbage_collect_values=False, graph=self.graph)
            self._interpreter.args_iter = iter(self._example)
        env: dict[fx.Node, Any] = self._interpreter.env
        self._computing = True
        try:
            with no_grad():
                for node in self.graph.nodes:
                    if node not in env and wanted not in env:
                        env[node] = self._interpreter.run_node(node)
        finally:
            self._computing = False
        return env

    def _forget_after(self, count: int) -> None:
        """Erase what was recorded beyond ``count`` nodes; parameters stay, later code may read the same ones."""
        for node in reversed(list(self.graph.nodes)[count:]):
            if node.op != "get_attr":
                self.graph.erase_node(node)


def _tracer(value: fx.Proxy) -> Tracer:
    assert isinstance(value.tracer, Tracer)
    return value.tracer


def _from_sizes(node: fx.Node, env: dict[fx.Node, Any]) -> bool:
    if isinstance(env[node], Tensor):
        return False
    return _asked(node) in _SIZES or all(_from_sizes(source, env) for source in node.all_input_nodes)


def _asked(node: fx.Node) -> str:
    """Return the name of what a node asks of its first argument."""
    if node.target is getattr:
        return str(node.args[1])
    return str(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", ""))
