"""Which shape an operator's output has once the channels before it are fewer, and which of its constants change.

Only channels change, never an image's height or width, so a formula is needed for the channels alone; everything else
is the base file's. What is not known here is refused, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.export.format import FastPathUnsupportedError

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operator of the base file and what comes into it now."""

    kind: str
    options: Any
    inputs: Sequence[Shape | None]
    """Shapes now; None for an input that is left out."""
    before: Sequence[Shape | None]
    """The same in the base file."""
    output: Shape
    """Of the first output, in the base file."""
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """Position among the inputs → a whole-number constant's values."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """An operator's outputs, and what has to be written anew for it."""

    outputs: tuple[Shape, ...]
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """Position among the inputs → new values."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Name of an option → its new value."""


def resolve(op: Operation, outputs: int = 1) -> Resolved:
    """Return the output shapes now.

    Raises:
        FastPathUnsupportedError: the operator is not known, or the shapes do not fit together.
    """
    rule = _RULES.get(op.kind)
    if rule is not None:
        return rule(op)
    if op.kind in _ELEMENTWISE:
        return Resolved(outputs=(_broadcast(op),))
    if tuple(op.inputs) == tuple(op.before) and outputs == 1:
        return Resolved(outputs=(op.output,))
    raise FastPathUnsupportedError(f"{op.kind} follows a layer that was cut, and how it changes is not known")


_ELEMENTWISE = frozenset(
    {
        "ADD", "MUL", "SUB", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "RELU", "RELU6",
        "RELU_N1_TO_1", "LEAKY_RELU", "ELU", "PRELU", "GELU", "LOGISTIC", "TANH", "HARD_SWISH", "SOFTMAX",
        "LOG_SOFTMAX", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "NEG", "ABS", "FLOOR", "CEIL", "SIN", "COS",
        "CAST",
    }
)  # fmt: skip


def _broadcast(op: Operation) -> Shape:
    shapes = [s for s in op.inputs if s is not None]
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError:
        raise FastPathUnsupportedError(f"{op.kind} would join shapes {' and '.join(map(str, shapes))}") from None


def _convolution(op: Operation) -> Resolved:
    """Filters are (out, height, width, in / groups)."""
    image, filters = _required(op, 0), _required(op, 1)
    if image[-1] % filters[-1]:
        raise FastPathUnsupportedError(f"{op.kind} of {filters[-1]} channels a group would get {image[-1]}")
    return Resolved(outputs=((*op.output[:-1], filters[0]),))


def _depthwise(op: Operation) -> Resolved:
    """Filters are (1, height, width, out), ``multiplier`` of them for each channel that comes in."""
    image, filters = _required(op, 0), _required(op, 1)
    if filters[-1] % image[-1]:
        raise FastPathUnsupportedError(f"{op.kind} with {filters[-1]} filters would get {image[-1]} channels")
    return Resolved(outputs=((*op.output[:-1], filters[-1]),), options={"depthMultiplier": filters[-1] // image[-1]})


def _fully_connected(op: Operation) -> Resolved:
    values, weights = _required(op, 0), _required(op, 1)
    if values[-1] != weights[1]:
        raise FastPathUnsupportedError(f"{op.kind} of {weights[1]} values would get {values[-1]}")
    return Resolved(outputs=((*op.output[:-1], weights[0]),))


def _spatial(op: Operation) -> Resolved:
    """Pooling and resizing: height and width are the base file's, channels those that come in."""
    return Resolved(outputs=((*op.output[:-1], _required(op, 0)[-1]),))


def _transpose(op: Operation) -> Resolved:
    values = _required(op, 0)
    return Resolved(outputs=(tuple(values[int(axis)] for axis in _constant(op, 1)),))


def _concatenation(op: Operation) -> Resolved:
    shapes = [_required(op, i) for i in range(len(op.inputs))]
    axis = int(op.options.axis) % len(shapes[0])
    joined = list(shapes[0])
    joined[axis] = sum(s[axis] for s in shapes)
    return Resolved(outputs=(tuple(joined),))


def _pad(op: Operation) -> Resolved:
    sides = _constant(op, 1).reshape(-1, 2)
    return Resolved(outputs=(tuple(n + int(a) + int(b) for n, (a, b) in zip(_required(op, 0), sides, strict=True)),))


def _reduce(op: Operation) -> Resolved:
    values = _required(op, 0)
    axes = {int(axis) % len(values) for axis in _constant(op, 1).reshape(-1)}
    if op.options.keepDims:
        return Resolved(outputs=(tuple(1 if i in axes else n for i, n in enumerate(values)),))
    return Resolved(outputs=(tuple(n for i, n in enumerate(values) if i not in axes),))


def _reshape(op: Operation) -> Resolved:
    before, now = _required(op, 0, op.before), _required(op, 0)
    after = _reshaped(before, now, op.output)
    return Resolved(
        outputs=(after,), constants={1: np.array(after, np.int32)} if 1 in op.constants else {},
        options={"newShape": np.array(after, np.int32)} if op.options is not None else {},
    )  # fmt: skip


def _reshaped(before: Shape, now: Shape, after: Shape) -> Shape:
    """Return what ``after`` becomes when ``before``, which it reshapes, has become ``now``.

    >>> _reshaped((1, 1, 1, 64), (1, 1, 1, 48), (1, 64)), _reshaped((1, 16, 4, 4), (1, 12, 4, 4), (1, 256))
    ((1, 48), (1, 192))
    """
    if before == now:
        return after
    if (found := _regrouped(before, now, after)) is not None:
        return found
    changed = [i for i, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
    if len(changed) == 1:
        old, new = before[changed[0]], now[changed[0]]
        places = [i for i, length in enumerate(after) if length == old]
        if not places:  # the channels are one factor of a flattened length
            places = [i for i, length in enumerate(after) if length > 1 and (length * new) % old == 0]
        if len(places) == 1:
            place = places[0]
            found = (*after[:place], after[place] * new // old, *after[place + 1 :])
            if math.prod(found) == math.prod(now):
                return found
    raise FastPathUnsupportedError(f"RESHAPE of {before} to {after} would get {now}: which length changes is ambiguous")


def _regrouped(before: Shape, now: Shape, after: Shape) -> Shape | None:
    """Return the new shape where one length is split, or some are joined, between others that stay; else None.

    Of a length that is split, as in a channel shuffle, the longest factor is the one that shrinks.

    >>> _regrouped((1, 16, 4), (1, 8, 4), (1, 2, 8, 4)), _regrouped((1, 2, 8, 4), (1, 2, 4, 4), (1, 16, 4))
    ((1, 2, 4, 4), (1, 8, 4))
    """
    ends = min(len(before), len(after)) - 1
    start = next((i for i in range(ends) if not before[i] == now[i] == after[i]), ends)
    stop = next((i for i in range(ends - start) if not before[-1 - i] == now[-1 - i] == after[-1 - i]), ends - start)
    old, new = math.prod(before[start : len(before) - stop]), math.prod(now[start : len(now) - stop])
    middle = list(after[start : len(after) - stop])
    longest = middle.index(max(middle))
    if 1 not in (len(middle), len(before) - stop - start) or math.prod(middle) != old or middle[longest] * new % old:
        return None
    middle[longest] = middle[longest] * new // old
    return (*after[:start], *middle, *after[len(after) - stop :])


def _strided_slice(op: Operation) -> Resolved:
    """Axes that were cut must be taken whole; their end moves with them."""
    before, now = _required(op, 0, op.before), _required(op, 0)
    begin, end, stride = (_constant(op, i).reshape(-1).copy() for i in (1, 2, 3))
    options = op.options
    if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask or len(op.output) != len(before):
        return _unchanged(op)
    output = list(op.output)
    for axis in _cut_axes(before, now):
        if begin[axis] not in (0, -before[axis]) or stride[axis] != 1 or output[axis] != before[axis]:
            raise FastPathUnsupportedError(f"{op.kind} takes a part of the channels that were cut")
        end[axis] = output[axis] = now[axis]
    return Resolved(outputs=(tuple(output),), constants={2: end})


def _slice(op: Operation) -> Resolved:
    before, now = _required(op, 0, op.before), _required(op, 0)
    begin, size = _constant(op, 1).reshape(-1), _constant(op, 2).reshape(-1).copy()
    output = list(op.output)
    for axis in _cut_axes(before, now):
        if begin[axis] != 0 or output[axis] != before[axis]:
            raise FastPathUnsupportedError(f"{op.kind} takes a part of the channels that were cut")
        size[axis] = output[axis] = now[axis]
    return Resolved(outputs=(tuple(output),), constants={2: size})


def _unchanged(op: Operation) -> Resolved:
    if _required(op, 0, op.before) != _required(op, 0):
        raise FastPathUnsupportedError(f"{op.kind} follows a layer that was cut, and how it changes is not known")
    return Resolved(outputs=(op.output,))


def _cut_axes(before: Shape, now: Shape) -> list[int]:
    return [axis for axis, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]


def _required(op: Operation, position: int, shapes: Sequence[Shape | None] | None = None) -> Shape:
    found = (op.inputs if shapes is None else shapes)[position]
    if found is None:
        raise FastPathUnsupportedError(f"{op.kind} without its input {position}")
    return found


def _constant(op: Operation, position: int) -> NDArray[Any]:
    if position not in op.constants:
        raise FastPathUnsupportedError(f"{op.kind} computes its input {position} while running")
    return op.constants[position]


_RULES: Mapping[str, Callable[[Operation], Resolved]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "AVERAGE_POOL_2D": _spatial,
    "MAX_POOL_2D": _spatial,
    "RESIZE_NEAREST_NEIGHBOR": _spatial,
    "RESIZE_BILINEAR": _spatial,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concatenation,
    "PAD": _pad,
    "PADV2": _pad,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
}
