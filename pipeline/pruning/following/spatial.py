"""Operators within each channel, such as pooling, and those that reduce or mix along some dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from pipeline.pruning.following.book import NotFollowedError, spread, varying
from pipeline.pruning.following.call import Call, neutral

POOLING = frozenset(
    f"{kind}{dims}"
    for dims in ("1d", "2d", "3d")
    for kind in ("adaptiveavgpool", "adaptive_avg_pool", "adaptivemaxpool", "adaptive_max_pool", "avgpool", "avg_pool",
                 "fractionalmaxpool", "lppool", "lp_pool", "maxpool", "max_pool")
) | {"interpolate", "upsample", "upsamplingnearest2d", "upsamplingbilinear2d"}  # fmt: skip
REDUCTIONS = frozenset("amax amin logsumexp mean median norm nansum prod std sum var vector_norm".split())  # noqa: SIM905
MIXING = frozenset("cumprod cumsum flip log_softmax logsoftmax normalize roll softmax softmax2d softmin".split())  # noqa: SIM905
"""What mixes values along one dimension and keeps the shape."""


def pooling(call: Call) -> Tensor:
    """Keep each channel's label at another resolution."""
    if not isinstance(call.result, Tensor):
        raise NotFollowedError(f"{call.name} that returns more than one tensor is not followed")
    return spread(call.book.along(call.labels, 1), 1, call.shape)


def reduction(call: Call) -> Tensor:
    """Keep the labels of what stays apart; a reduction over channels needs them all."""
    labels, dims = call.labels, _dims(call, everything=True)
    if not isinstance(call.result, Tensor):
        raise NotFollowedError(f"{call.name} along a dimension returns places too, which are not followed")
    keep = call.result.dim() == labels.dim()
    if set(varying(labels)) & dims:
        call.book.pin(labels, f"{call.name} reduces over its channels")
        return neutral(call.shape)
    for dim in sorted(dims, reverse=True):
        labels = labels.narrow(dim, 0, 1) if keep else labels.select(dim, 0)
    return labels


def mixing(call: Call) -> Tensor:
    """Keep the labels; where channels lie along the dimension that is mixed, all of them stay."""
    if set(varying(call.labels)) & _dims(call, everything=False):
        call.book.pin(call.labels, f"{call.name} mixes its channels")
    return call.labels


def _dims(call: Call, *, everything: bool) -> set[int]:
    """Return the dimensions that an operator works along; without a word, all of them or the second."""
    found: Any = getattr(call.module, "dim", None) if call.module is not None else None
    if found is None:
        place = {"norm": 2, "normalize": 2}.get(call.name, 1)
        names = ("dim", "axis", "dims")
        given = next((call.kwargs[n] for n in names if n in call.kwargs), None)
        found = given if given is not None else (call.args[place] if len(call.args) > place else None)
    if found is None:
        return set(range(call.labels.dim())) if everything else {1}
    dims: Iterable[int] = found if isinstance(found, (tuple, list)) else [found]
    return {int(d) % call.labels.dim() for d in dims}
