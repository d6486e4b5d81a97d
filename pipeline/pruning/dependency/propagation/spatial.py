"""Operators within each channel, such as pooling, and those that reduce or mix along some dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.pruning.dependency.propagation.call import Call, neutral
from pipeline.pruning.dependency.propagation.elementwise import arithmetic
from pipeline.pruning.dependency.propagation.labels import UnsupportedOperatorError, spread, varying

POOLING = frozenset(
    f"{kind}{dims}"
    for dims in ("1d", "2d", "3d")
    for kind in ("adaptiveavgpool", "adaptive_avg_pool", "adaptivemaxpool", "adaptive_max_pool", "avgpool", "avg_pool",
                 "fractionalmaxpool", "lppool", "lp_pool", "maxpool", "max_pool")
) | {"interpolate", "upsample", "upsamplingnearest2d", "upsamplingbilinear2d"}  # fmt: skip
REDUCTIONS = frozenset(
    """
    all amax amin aminmax any argmax argmin count_nonzero logsumexp mean median nanmean nanmedian nansum norm prod std
    std_mean sum var var_mean vector_norm
    """.split()  # noqa: SIM905 - a table of words
)
MIXING = frozenset(
    """
    cummax cummin cumprod cumsum flip log_softmax logsoftmax normalize roll softmax softmax2d softmin
    """.split()  # noqa: SIM905 - a table of words
)
"""What mixes values along one dimension and keeps the shape."""
PRODUCTS = frozenset(
    """
    addbmm addmm baddbmm bilinear bmm chain_matmul cdist dot einsum inner kron matmul mm mv outer
    scaled_dot_product_attention tensordot
    """.split()  # noqa: SIM905 - a table of words
)
"""What makes sums of products: each channel may meet every other."""


def pooling(call: Call) -> Tensor:
    """Keep each channel's label at another resolution."""
    if not isinstance(call.result, Tensor):
        raise UnsupportedOperatorError(f"{call.name} that returns more than one tensor is not supported")
    return spread(call.state.along(call.labels, 1), 1, call.shape)


def reduction(call: Call) -> Any:
    """Keep the labels of what stays apart, values and places alike; over channels it gives what no channel owns.

    One number for all images at once owns no channel: with fewer of them it changes, as a layer norm's does. A number a
    pixel needs all channels, and so do places among them.
    """
    dims = _dims(call, everything=True)
    if set(varying(call.labels)) & dims:
        if isinstance(call.result, Tensor) and call.result.dim() == 0:
            call.state.normalised.append(torch.unique(call.labels))
        else:
            call.state.freeze(call.labels, f"{call.name} reduces over its channels")
        return _of_each(call.result, lambda result: neutral(tuple(result.shape)))
    return _of_each(call.result, lambda result: _without(call.labels, dims, keep=result.dim() == call.labels.dim()))


def may_mix_channels(call: Call) -> str:
    """Return why the channels stay that a product reads and makes."""
    return f"{call.name} is not supported: it may mix all channels"


def product(call: Call) -> Any:
    """Keep all channels of both factors."""
    for _, labels in call.tensors():
        call.state.freeze(labels, may_mix_channels(call))
    return _of_each(call.result, lambda result: _stays(call, result))


def _stays(call: Call, result: Tensor) -> Tensor:
    if result.dim() < 2:
        return neutral(tuple(result.shape))
    labels = call.state.fresh(result.shape[1])
    call.state.freeze(labels, may_mix_channels(call))
    return spread(labels, 1, tuple(result.shape))


def extreme(call: Call) -> Any:
    """Take the larger or smaller of two tensors, or of each along a dimension."""
    return arithmetic(call) if sum(1 for _ in call.tensors()) > 1 else reduction(call)


def mixing(call: Call) -> Any:
    """Keep the labels; where channels lie along the dimension that is mixed, all of them stay."""
    if set(varying(call.labels)) & _dims(call, everything=False):
        call.state.freeze(call.labels, f"{call.name} mixes its channels")
    return _of_each(call.result, lambda _: call.labels)


def _without(labels: Tensor, dims: set[int], *, keep: bool) -> Tensor:
    """Return the labels of what is left when dimensions are reduced, to size one where they are kept."""
    for dim in sorted(dims, reverse=True):
        labels = labels.narrow(dim, 0, 1) if keep else labels.select(dim, 0)
    return labels


def _of_each(result: Any, labels: Callable[[Tensor], Tensor]) -> Any:
    """Return labels for each tensor that an operator gives."""
    return tuple(map(labels, result)) if isinstance(result, (tuple, list)) else labels(result)


def _dims(call: Call, *, everything: bool) -> set[int]:
    """Return the dimensions that an operator works along; without a word, all of them or the second."""
    found: Any = getattr(call.module, "dim", None) if call.module is not None else None
    if found is None:
        place = {"norm": 2, "normalize": 2}.get(call.name, 1)
        names = ("dim", "axis", "dims")
        given = next((call.kwargs[n] for n in names if n in call.kwargs), None)
        found = given if given is not None else (call.args[place] if len(call.args) > place else None)
    if (
        found is None or isinstance(found, bool) or found in ((), [])
    ):  # var's ``unbiased`` stands where others' ``dim`` does
        return set(range(call.labels.dim())) if everything else {1}
    dims: Iterable[int] = found if isinstance(found, (tuple, list)) else [found]
    return {int(d) % call.labels.dim() for d in dims}
