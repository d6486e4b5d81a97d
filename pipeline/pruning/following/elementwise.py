"""Operators that work on each value by itself, or on values that meet."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.pruning.following.book import NEUTRAL, Book, compact, varying
from pipeline.pruning.following.call import Call

UNARY = frozenset(
    """
    abs alphadropout bernoulli celu ceil clamp clip clone contiguous cos deg2rad detach dropout dropout1d dropout2d
    dropout3d elu erf exp expm1 featurealphadropout float floor gelu half hardshrink hardsigmoid hardswish hardtanh
    identity leakyrelu leaky_relu log log10 log1p log2 logical_not logit logsigmoid mish neg negative nan_to_num
    positive reciprocal relu relu6 requires_grad_ rrelu rsqrt round selu sigmoid sign silu sin softplus softshrink
    softsign sqrt square stochasticdepth stochastic_depth tanh tanhshrink threshold to trunc type type_as
    """.split()  # noqa: SIM905 - a table of words
)
"""By name; modules by their class's name in lower case."""
ARITHMETIC = frozenset(
    """
    add addcdiv addcmul atan2 div divide eq fmod ge gt iadd imul ipow isub itruediv le lerp lt maximum minimum mul
    multiply ne pow remainder rsub sub subtract truediv true_divide where
    """.split()  # noqa: SIM905 - a table of words
)


def unary(call: Call) -> Tensor:
    """Keep each label."""
    return call.labels.expand(call.shape)


def arithmetic(call: Call) -> Tensor:
    """Tie the labels of values that meet."""
    merged = torch.full((1,), NEUTRAL)
    for _, labels in call.tensors():
        merged = _met(call.book, merged, labels)
    return merged.expand(call.shape)


def _met(book: Book, a: Tensor, b: Tensor) -> Tensor:
    """Return the labels of what two tensors' values become together."""
    a, b = _unless_spread(book, a, b), _unless_spread(book, b, a)
    small_a, small_b = compact(a), compact(b)
    book.tie(small_a, small_b)
    small_a, small_b = torch.broadcast_tensors(small_a, small_b)  # type: ignore[no-untyped-call]
    whole: tuple[int, ...] = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return torch.where(small_a == NEUTRAL, small_b, small_a).expand(whole)


def _unless_spread(book: Book, side: Tensor, other: Tensor) -> Tensor:
    """Return a side's labels, neutral ones where a single channel meets several: it cannot go, they may."""
    if compact(side).numel() == 1 and varying(other):
        book.pin(side, "its only channel meets all channels of another layer")
        return torch.full_like(side, NEUTRAL)
    return side
