"""Operators that work on each value by itself, or on values that meet."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.pruning.dependency.propagation.call import Call
from pipeline.pruning.dependency.propagation.labels import NEUTRAL, PropagationState, compact, varying

UNARY = frozenset(
    """
    abs absolute acos acosh alphadropout asin asinh atan atanh bernoulli bitwise_not bool celu ceil clamp clamp_max
    clamp_min clip clone contiguous cos cosh deg2rad detach digamma double dropout dropout1d dropout2d dropout3d elu
    empty_like erf erfc erfinv exp exp2 expm1 featurealphadropout fix float floor frac full_like gelu half hardshrink
    hardsigmoid hardswish hardtanh identity int invert isfinite isinf isnan leakyrelu leaky_relu lgamma log log10 log1p
    log2 log_sigmoid logical_not logit logsigmoid long mish nan_to_num neg negative ones_like pos positive rad2deg
    reciprocal relu relu6 requires_grad_ round rrelu rsqrt selu sgn sigmoid sign signbit silu sin sinc sinh softplus
    softshrink softsign sqrt square stochasticdepth stochastic_depth tan tanh tanhshrink threshold to trunc type
    type_as zeros_like
    """.split()  # noqa: SIM905 - a table of words
)
"""By name; modules by their class's name in lower case."""
ARITHMETIC = frozenset(
    """
    add addcdiv addcmul and arctan2 atan2 bitwise_and bitwise_or bitwise_xor copysign div divide eq float_power
    floor_divide floordiv fmax fmin fmod ge greater greater_equal gt heaviside hypot iadd iand imul ior ipow isub
    itruediv ldexp le lerp less less_equal logaddexp logaddexp2 logical_and logical_or logical_xor lt masked_fill
    maximum minimum mod mul multiply ne nextafter not_equal or pow remainder rsub sub subtract true_divide truediv where
    xlogy xor
    """.split()  # noqa: SIM905 - a table of words
)


def unary(call: Call) -> Tensor:
    """Keep each label."""
    return call.labels.expand(call.shape)


def arithmetic(call: Call) -> Tensor:
    """Tie the labels of values that meet."""
    merged = torch.full((), NEUTRAL)
    for _, labels in call.tensors():
        merged = _met(call.state, merged, labels)
    return merged.expand(call.shape)


def _met(state: PropagationState, a: Tensor, b: Tensor) -> Tensor:
    """Return the labels of what two tensors' values become together."""
    a, b = _unless_spread(state, a, b), _unless_spread(state, b, a)
    small_a, small_b = compact(a), compact(b)
    state.couple(small_a, small_b)
    small_a, small_b = torch.broadcast_tensors(small_a, small_b)  # type: ignore[no-untyped-call]
    whole: tuple[int, ...] = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return torch.where(small_a == NEUTRAL, small_b, small_a).expand(whole)


def _unless_spread(state: PropagationState, side: Tensor, other: Tensor) -> Tensor:
    """Return a side's labels, neutral ones where a single channel meets several: it cannot go, they may."""
    if compact(side).numel() == 1 and varying(other):
        state.freeze(side, "its only channel meets all channels of another layer")
        return torch.full_like(side, NEUTRAL)
    return side
