"""ATen operators rewritten as public torch functions: one vocabulary for all rules.

torch.export leaves some 200 overloads of core operators. Those whose arguments stand as in the public function of the
same name stay (``operators.operator_name`` knows them by that name). The closed list here is of the others: views and
slices, scatters (which in-place writes have become), functions whose arguments are in another order, and what does
nothing in eval mode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.nn import functional

Made: TypeAlias = Any
"""What takes an operator's place: a node, an argument that stands for it, or a tuple of these."""
Rewrite: TypeAlias = Callable[[fx.Graph, fx.Node, tuple[Any, ...], Mapping[str, Any]], Made]
"""Given the new graph, the old node, and its arguments as they stand in the new graph by position and by name."""

_END = 2**63 - 1
"""An open end of a slice."""


class UnsupportedError(Exception):
    """An operator whose effect cannot be written; the message says why."""


def rewritten(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Made:
    """Write one operator of an exported program into ``graph``, and return what stands for its result.

    Raises:
        UnsupportedError: it cannot be written.
    """
    target = node.target
    if target is operator.getitem and isinstance(args[0], (tuple, list)):
        return args[0][args[1]]
    if isinstance(target, torch._ops.OpOverload) and (rewrite := _REWRITES.get(operator_of(target))):
        given = _by_name(target, args, kwargs)
        return rewrite(graph, node, tuple(given.values()), given)
    if not callable(target):
        raise UnsupportedError(f"{target} is no function")
    return graph.call_function(_public(target), args, dict(kwargs))


def is_rewritten(name: str) -> bool:
    """Return whether an ATen operator of this name is in the list."""
    return name in _REWRITES


def operator_of(target: torch._ops.OpOverload) -> str:
    """Return an operator's name without its overload's.

    >>> operator_of(torch.ops.aten.add.Tensor)
    'add'
    """
    return str(target._schema.name).partition("::")[2]


def _public(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return torch's public function of an operator's name, which takes the same arguments, or the operator itself."""
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        name = operator_of(target)
        return getattr(torch, name, None) or getattr(functional, name, None) or target
    return target


def _by_name(target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments by name in the order of the schema, with its defaults."""
    given = {}
    for i, argument in enumerate(target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        given[argument.name] = args[i] if i < len(args) else kwargs.get(argument.name, default)
    return given


def _same(_: fx.Graph, __: fx.Node, args: tuple[Any, ...], ___: Mapping[str, Any]) -> Made:
    return args[0]


def _nothing(*_: Any) -> Made:
    return None


def _function(target: Callable[..., Any], *places: int) -> Rewrite:
    """Return the rewrite to a function that takes some of the arguments, in an order of its own."""

    def rewrite(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
        return graph.call_function(target, tuple(args[i] for i in places))

    return rewrite


def _first_of(target: Callable[..., Any], *places: int) -> Rewrite:
    """Return the rewrite of an operator with several results, of which the function gives the first."""
    alone = _function(target, *places)

    def rewrite(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Made:
        for user in node.users:
            if user.target is not operator.getitem or user.args[1] != 0:
                raise UnsupportedError(f"{operator_of(node.target)} gives more than values that are read")  # type: ignore[arg-type]
        return (alone(graph, node, args, kwargs),)

    return rewrite


def _sum(target: Callable[..., Any]) -> Rewrite:
    """Return the rewrite of a sum or difference; where its second side is scaled by ``alpha``, it stays."""

    def rewrite(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
        a, b, alpha = args[:3]
        if alpha != 1:
            b = graph.call_function(operator.mul, (b, alpha))
        return graph.call_function(target, (a, b))

    return rewrite


def _reversed_difference(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    a, b, alpha = args[:3]
    if alpha != 1:
        a = graph.call_function(operator.mul, (a, alpha))
    return graph.call_function(operator.sub, (b, a))


def _divided(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], given: Mapping[str, Any]) -> Made:
    if rounding := given.get("rounding_mode"):
        return graph.call_function(torch.div, args[:2], {"rounding_mode": rounding})
    return graph.call_function(operator.truediv, args[:2])


def _viewed(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_method("reshape", (args[0], list(args[1])))


def _expanded(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_method("expand", (args[0], list(args[1])))


def _sized(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_method("size", (args[0], args[1]))


def _copied(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    """Write values over others: they are what is left, in the others' shape."""
    over, values = node.args[:2]
    if isinstance(values, fx.Node) and _shape(values) == _shape(over):
        return args[1]
    return graph.call_method("expand_as", (args[1], args[0])) if isinstance(args[1], fx.Node) else graph.call_function(
        torch.full_like, (args[0], args[1]))  # fmt: skip


def _cast(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Made:
    source, kind = node.args[0], kwargs.get("dtype")
    before = _value(source).dtype if isinstance(source, fx.Node) else None
    return args[0] if kind in (None, before) else graph.call_method("to", (args[0], kind))


def _sliced(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], _: Mapping[str, Any]) -> Made:
    source, dim, start, end, step = args
    size = _shape(node.args[0])[dim]
    dim %= len(_shape(node.args[0]))
    whole = start in (None, 0) and step == 1 and (end is None or (isinstance(end, int) and end >= _known(size)))
    if whole:
        return source
    part = slice(start or None, None if end in (None, _END) else end, None if step == 1 else step)
    return graph.call_function(operator.getitem, (source, (*[slice(None)] * dim, part)))


def _selected(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], _: Mapping[str, Any]) -> Made:
    source, dim, index = args
    dim %= len(_shape(node.args[0]))
    return graph.call_function(operator.getitem, (source, (*[slice(None)] * dim, index)))


def _slice_written(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    """Lay together what is before a part, the part's new values, and what is after it."""
    base, values, dim, start, end, step = args
    shape = _shape(node.args[0])
    dim %= len(shape)
    size = _known(shape[dim])
    first, last, _ = slice(start, end).indices(size) if size < _END else (start or 0, _END, 1)
    if step != 1:
        raise UnsupportedError("every n-th value of a tensor is written by itself")
    if first == 0 and last >= size:
        return values
    if size == _END:
        raise UnsupportedError("some images of a batch are written by themselves")
    pieces = [values]
    if first > 0:
        pieces.insert(0, _piece(graph, base, dim, None, first))
    if last < size:
        pieces.append(_piece(graph, base, dim, last, None))
    return graph.call_function(torch.cat, (pieces, dim))


def _item_written(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Made:
    base, values, dim, index = args
    shape = _shape(node.args[0])
    dim %= len(shape)
    index %= _known(shape[dim])
    values = graph.call_function(torch.unsqueeze, (values, dim))
    return _slice_written(graph, node, (base, values, dim, index, index + 1, 1), kwargs)


def _piece(graph: fx.Graph, base: Any, dim: int, start: int | None, end: int | None) -> fx.Node:
    return graph.call_function(operator.getitem, (base, (*[slice(None)] * dim, slice(start, end))))


def _squeezed(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], _: Mapping[str, Any]) -> Made:
    """Name the dimensions of size one that go: a batch of one image keeps its own."""
    if len(args) > 1:
        return graph.call_function(torch.squeeze, args)
    ones = [i for i, size in enumerate(_shape(node.args[0])) if isinstance(size, int) and size == 1]
    return graph.call_function(torch.squeeze, (args[0], tuple(ones)))


def _interpolated(mode: str) -> Rewrite:
    def rewrite(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
        source, size, *corners, scales = args
        options: dict[str, Any] = {"mode": mode}
        if corners:
            options["align_corners"] = corners[0]
        options |= {"size": size} if scales is None else {"scale_factor": scales}
        return graph.call_function(functional.interpolate, (source,), options)

    return rewrite


def _split(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_function(torch.split, (args[0], args[1], args[2]))


def _extreme(target: Callable[..., Any], whole: Callable[..., Any]) -> Rewrite:
    """Return the rewrite of max and min: of two tensors, along a dimension (values only), or of all."""

    def rewrite(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], _: Mapping[str, Any]) -> Made:
        overload = node.target._overloadname  # type: ignore[union-attr]
        if overload == "dim":
            if any(user.args[1] != 0 for user in node.users):
                return graph.call_function(target, args)
            return (graph.call_function(whole, args), None)
        return graph.call_function(target, args)

    return rewrite


def _batch_normalised(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    source, weight, bias, mean, variance, momentum, eps = args
    normalised = graph.call_function(
        functional.batch_norm, (source, mean, variance, weight, bias, False, momentum, eps)
    )
    return (normalised,)


def _padded(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_function(functional.pad, (args[0], args[1], "constant", args[2]))


def _filled_like(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
    return graph.call_function(torch.full_like, args[:2])


def _filled(value: float | None = None) -> Rewrite:
    """Return the rewrite of a constant of given sizes; of a value, or of one that is given."""

    def rewrite(graph: fx.Graph, node: fx.Node, _: tuple[Any, ...], given: Mapping[str, Any]) -> Made:
        of = given["fill_value"] if value is None else value
        return graph.call_function(torch.full, (list(given["size"]), of), {"dtype": _value(node).dtype})

    return rewrite


def _filled_as(value: float) -> Rewrite:
    def rewrite(graph: fx.Graph, _: fx.Node, args: tuple[Any, ...], __: Mapping[str, Any]) -> Made:
        return graph.call_function(torch.full_like, (args[0], value))

    return rewrite


def _known(size: Any) -> int:
    """Return a size, the largest number for one that is symbolic (the number of images)."""
    return size if isinstance(size, int) else _END


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(_value(node).shape)


def _value(node: Any) -> Tensor:
    value: Tensor = node.meta["val"]
    return value


_REWRITES: dict[str, Rewrite] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy", "lift"), _same),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "native_dropout"), _same),
    **dict.fromkeys(("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"),
                    _nothing),
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "view_copy"), _viewed),
    **dict.fromkeys(("expand", "expand_copy"), _expanded),
    **dict.fromkeys(("to", "_to_copy"), _cast),
    **dict.fromkeys(("slice", "slice_copy"), _sliced),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "select": _selected,
    "sym_size": _sized,
    "copy": _copied,
    "slice_scatter": _slice_written,
    "select_scatter": _item_written,
    "squeeze": _squeezed,
    "add": _sum(operator.add),
    "sub": _sum(operator.sub),
    "rsub": _reversed_difference,
    "mul": _function(operator.mul, 0, 1),
    "div": _divided,
    "max": _extreme(torch.max, torch.amax),
    "min": _extreme(torch.min, torch.amin),
    "cat": _function(torch.cat, 0, 1),
    "stack": _function(torch.stack, 0, 1),
    "relu": _function(functional.relu, 0),
    "constant_pad_nd": _padded,
    "full_like": _filled_like,
    "zeros_like": _filled_as(0.0),
    "ones_like": _filled_as(1.0),
    **dict.fromkeys(("full", "new_full"), _filled()),
    **dict.fromkeys(("zeros", "new_zeros", "empty", "new_empty"), _filled(0.0)),
    **dict.fromkeys(("ones", "new_ones"), _filled(1.0)),
    "pad": _function(functional.pad, 0, 1, 2, 3),
    "softmax": _function(torch.softmax, 0, 1),
    "_softmax": _function(torch.softmax, 0, 1),
    "log_softmax": _function(torch.log_softmax, 0, 1),
    "_log_softmax": _function(torch.log_softmax, 0, 1),
    "conv1d": _function(functional.conv1d, *range(7)),
    "conv2d": _function(functional.conv2d, *range(7)),
    "conv3d": _function(functional.conv3d, *range(7)),
    "conv_transpose1d": _function(functional.conv_transpose1d, *range(8)),
    "conv_transpose2d": _function(functional.conv_transpose2d, *range(8)),
    "conv_transpose3d": _function(functional.conv_transpose3d, *range(8)),
    "linear": _function(functional.linear, 0, 1, 2),
    "layer_norm": _function(functional.layer_norm, *range(5)),
    "group_norm": _function(functional.group_norm, *range(5)),
    "prelu": _function(functional.prelu, 0, 1),
    "avg_pool2d": _function(functional.avg_pool2d, *range(7)),
    "max_pool2d": _function(functional.max_pool2d, *range(6)),
    **{f"adaptive_avg_pool{n}d": _function(getattr(functional, f"adaptive_avg_pool{n}d"), 0, 1) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _first_of(getattr(functional, f"adaptive_max_pool{n}d"), 0, 1) for n in (1, 2, 3)},
    "upsample_nearest1d": _interpolated("nearest"),
    "upsample_nearest2d": _interpolated("nearest"),
    "upsample_bilinear2d": _interpolated("bilinear"),
    "upsample_bicubic2d": _interpolated("bicubic"),
    "_native_batch_norm_legit_no_training": _batch_normalised,
}  # fmt: skip
"""By the operator's name, without its overload's."""
