"""Operators that move values and compute none: they are applied to the labels themselves.

What is left of a tensor after a cut has to be a box again, so its labels may differ along one dimension alone; where a
view makes them differ along several, as a channel shuffle does, labels are coupled along all but one of these. Numbers
in the graph that count channels are noted, to be fixed after a cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from pipeline.pruning.dependency.propagation.call import Call
from pipeline.pruning.dependency.propagation.labels import Place, UnsupportedOperatorError, spread, varying
from pipeline.pruning.dependency.propagation.shape_edits import Bounds, Literal, Pieces

PLAIN = frozenset(
    """
    adjoint expand_as flatten moveaxis movedim permute ravel squeeze swapaxes swapdims t transpose unsqueeze view_as
    reshape_as pixelshuffle pixel_shuffle pixelunshuffle pixel_unshuffle channelshuffle channel_shuffle
    """.split()  # noqa: SIM905 - a table of words
)
"""No number in them counts channels."""
PADDING = frozenset(["pad", *(f"{kind}pad{n}d" for kind in ("zero", "constant", "reflection", "replication", "circular")
                              for n in (1, 2, 3))])  # fmt: skip


def plain(call: Call) -> Tensor:
    """Move the labels as the values are moved."""
    return _boxed(call, _moved(call))


def sized(call: Call) -> Tensor:
    """View, reshape or unflatten: sizes that count channels are fixed after a cut."""
    labels = call.labels.reshape(call.shape)
    places = dict(enumerate(_size_places(call)))
    movable = [d for d in varying(labels) if not _is_fixed(call, places.get(d))]
    labels = _boxed(call, labels, prefer=movable)
    return _with_sizes_noted(call, labels, places)


def expanded(call: Call) -> Tensor:
    """Repeat along dimensions of size one; nothing else is counted by its sizes."""
    return _with_sizes_noted(call, call.labels.expand(call.shape), dict(enumerate(_size_places(call))))


def concatenated(call: Call) -> Tensor:
    """Lay the labels side by side."""
    marks, dim = call.marks[0], _dim(call, 1)
    if not all(isinstance(mark, Tensor) for mark in marks):
        raise UnsupportedOperatorError("it is concatenated with what is no tensor")
    if all(set(varying(mark)) <= {dim} for mark in marks):
        along = [call.state.along(mark, dim) for mark in marks]
        parts = call.node.args[0] if call.node.args else None
        if isinstance(parts, (list, tuple)) and dim == 1:
            call.state.joined[call.node.name] = [(str(p), a) for p, a in zip(parts, along, strict=True)]
        return spread(torch.cat(along), dim, call.shape)
    return _boxed(call, torch.cat([mark.contiguous() for mark in marks], dim))


def stacked(call: Call) -> Tensor:
    """Lay tensors side by side along a new dimension: what meets in it comes and goes together."""
    return _boxed(call, torch.stack(list(call.marks[0]), _dim(call, 1)))


def split(call: Call) -> tuple[Tensor, ...]:
    """Split or chunk: after a cut, into the sizes that are left."""
    dim = (call.argument(2, "dim", 0)) % call.labels.dim()
    sizes = [piece.shape[dim] for piece in call.result]
    pieces = torch.split(call.labels, sizes, dim)
    if dim in varying(call.labels):
        labels = [call.state.along(piece, dim) for piece in pieces]
        call.state.edits.append(Pieces(call.node.name, dim, labels))
    return pieces


def unbound(call: Call) -> tuple[Tensor, ...]:
    """Take a tensor apart along a dimension that no channels lie along."""
    dim = call.argument(1, "dim", 0) % call.labels.dim()
    if dim in varying(call.labels):
        raise UnsupportedOperatorError("it is taken apart channel by channel")
    return torch.unbind(call.labels, dim)


def indexed(call: Call) -> Any:
    """Take an item of a tuple, or a part of a tensor."""
    if not isinstance(call.marks[0], Tensor):
        return call.marks[0][call.args[1]] if isinstance(call.marks[0], (tuple, list)) else None
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    places = _indexed_dims(index, call.labels.dim())
    for dim in varying(call.labels):
        place = places.get(dim)
        if place is None or index[place] == slice(None):
            continue
        if not isinstance(index[place], (int, slice)):
            raise UnsupportedOperatorError("an index among its channels is computed")
        _note_bounds(call, dim, place, index[place])
    return call.labels[call.args[1]]


def _indexed_dims(index: tuple[Any, ...], dims: int) -> dict[int, int]:
    """Return which item of an index is for which dimension.

    >>> _indexed_dims((Ellipsis, slice(None, None, 2)), 4), _indexed_dims((None, slice(3)), 4)
    ({3: 1}, {0: 1})
    """
    taken = [0 if i is None or i is Ellipsis else i.dim() if _is_mask(i) else 1 for i in index]
    places, dim = {}, 0
    for place, (item, count) in enumerate(zip(index, taken, strict=True)):
        if item is Ellipsis:
            dim += dims - sum(taken)
        for _ in range(count):
            places[dim] = place
            dim += 1
    return places


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype is torch.bool


def narrowed(call: Call) -> Tensor:
    """Take a part: after a cut, as much as is left of it."""
    dim, start, length = (call.argument(i, name) for i, name in ((1, "dim"), (2, "start"), (3, "length")))
    dim %= call.labels.dim()
    if dim in varying(call.labels):
        along = call.state.along(call.labels, dim)
        start = int(start) % len(along) if start else 0
        for place, within in (
            (call.place(2, "start"), along[:start]),
            (call.place(3, "length"), along[start:][:length]),
        ):
            call.state.edits.append(Literal(call.node.name, place, within))
    return call.labels.narrow(dim, int(start), length)


def selected(call: Call) -> Tensor:
    """Take what is at one index of a dimension that no channels lie along."""
    dim = call.argument(1, "dim") % call.labels.dim()
    if dim in varying(call.labels):
        raise UnsupportedOperatorError("one of its channels is picked")
    return call.labels.select(dim, call.argument(2, "index"))


def gated(call: Call) -> Tensor:
    """Multiply one half of the channels by the other: both go together, and stay halves."""
    dim = getattr(call.module, "dim", None) if call.module is not None else call.argument(1, "dim", -1)
    first, second = call.labels.chunk(2, int(-1 if dim is None else dim) % call.labels.dim())
    call.state.couple(first, second)
    return first


def repeated(call: Call) -> Tensor:
    """Lay copies side by side."""
    return _boxed(call, _moved(call))


def padded(call: Call) -> Tensor:
    """Pad in space, or with channels of a constant, whose labels are new."""
    amounts: Any = getattr(call.module, "padding", None) if call.module is not None else call.argument(1, "pad")
    amounts = [amounts] * 4 if isinstance(amounts, int) else list(amounts)
    labels = call.labels
    for pair in range(len(amounts) // 2):
        dim, before, after = labels.dim() - 1 - pair, amounts[2 * pair], amounts[2 * pair + 1]
        if dim in varying(labels) and (before or after):
            labels = _padded_channels(call, labels, dim, 2 * pair, before, after)
    return _grown(labels, call.shape)


def _padded_channels(call: Call, labels: Tensor, dim: int, at: int, before: int, after: int) -> Tensor:
    mode = call.argument(2, "mode", "constant")
    if call.module is not None or mode != "constant" or min(before, after) < 0:
        raise UnsupportedOperatorError("its channels are padded by more than a constant")
    state, ends = call.state, (call.state.fresh(before), call.state.fresh(after))
    place = call.place(1, "pad")
    for i, end in enumerate(ends):
        if isinstance(call.written(place), fx.Node):
            raise UnsupportedOperatorError("what it is padded with is computed as a whole")
        if len(end):  # where it is computed, a number takes its place
            state.edits.append(Literal(call.node.name, (*place, at + i), end))
    along = torch.cat([ends[0], state.along(labels, dim), ends[1]])
    shape = list(labels.shape)
    shape[dim] = len(along)
    return spread(along, dim, tuple(shape))


def _grown(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the labels at a padded resolution; they are one in space, or they are not supported."""
    grown = [d for d in range(len(shape)) if labels.shape[d] != shape[d]]
    if set(grown) & set(varying(labels)):
        raise UnsupportedOperatorError("it is padded where its channels lie in space")
    for dim in grown:
        labels = labels.narrow(dim, 0, 1)
    return labels.expand(shape)


def _note_bounds(call: Call, dim: int, place: int, index: Any) -> None:
    along = call.state.along(call.labels, dim)
    if not isinstance(index, slice) or index.step not in (None, 1):
        raise UnsupportedOperatorError("some of its channels are picked one by one")
    if isinstance(call.node.args[1], fx.Node):
        raise UnsupportedOperatorError("an index among its channels is computed")
    start, stop, _ = index.indices(len(along))
    call.state.edits.append(Bounds(call.node.name, place, along[:start], along[start:stop]))


def _boxed(call: Call, labels: Tensor, prefer: list[int] | None = None) -> Tensor:
    """Tie labels until they differ along one dimension alone: an image's channels, a preferred one, or the longest."""
    dims = varying(labels)
    if not dims:
        return labels
    fit = [d for d in dims if d in (prefer or dims)] or dims
    keep = 1 if labels.dim() == 4 and 1 in fit else max(fit, key=lambda d: labels.shape[d])
    return spread(call.state.along(labels, keep), keep, tuple(labels.shape))


def _moved(call: Call) -> Tensor:
    marks = [mark if isinstance(mark, Tensor) else arg for mark, arg in zip(call.marks, call.args, strict=True)]
    keywords = {n: m if isinstance(m := call.keyword_marks[n], Tensor) else v for n, v in call.kwargs.items()}
    if call.module is not None:
        return torch.as_tensor(call.module(*marks, **keywords))
    if call.node.op == "call_method":
        return torch.as_tensor(getattr(marks[0], str(call.node.target))(*marks[1:], **keywords))
    return torch.as_tensor(call.node.target(*marks, **keywords))  # type: ignore[operator]


def _size_places(call: Call) -> list[Place | None]:
    """Return where each of the result's sizes is written, None where it is not."""
    if call.module is not None:
        raise UnsupportedOperatorError(f"sizes inside {call.name} are not supported")
    if call.name == "unflatten":
        at, dim = call.place(2, "sizes"), call.argument(1, "dim") % call.labels.dim()
        inner = len(call.argument(2, "sizes"))
        left = [None] * dim
        return [*left, *((*at, i) for i in range(inner)), *([None] * (len(call.shape) - dim - inner))]
    first = call.written((1,)) if len(call.args) > 1 else call.written((next(iter(call.kwargs)),))
    if isinstance(first, (tuple, list)):
        start: Place = (1,) if len(call.args) > 1 else (next(iter(call.kwargs)),)
        return [(*start, i) for i in range(len(first))]
    if isinstance(first, fx.Node) and isinstance(call.args[1], (tuple, list)):
        return [None] * len(call.shape)  # a whole shape that is computed
    return [(1 + i,) for i in range(len(call.args) - 1)]


def _with_sizes_noted(call: Call, labels: Tensor, places: Mapping[int, Place | None]) -> Tensor:
    """Note the sizes that are written as numbers and count channels; return the labels."""
    for dim in varying(labels):
        place = places.get(dim)
        if place is not None and _is_fixed(call, place):
            call.state.edits.append(Literal(call.node.name, place, call.state.along(labels, dim)))
    return labels


def _is_fixed(call: Call, place: Place | None) -> bool:
    """Return whether the size that is written there is a number: it can be fixed, but who computes others may not."""
    return place is not None and isinstance(call.written(place), int) and call.written(place) != -1


def _dim(call: Call, position: int) -> int:
    dim = call.argument(position, "dim", call.kwargs.get("axis", 0))
    return int(dim) % len(call.shape)
