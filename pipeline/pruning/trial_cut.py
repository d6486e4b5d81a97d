"""Is a group of channels safe to cut? Cut half of it, and see that the network answers as if it had gone unread.

torch-pruning follows channels through a network by rules for the operators that it knows, and where a rule does not
fit (channel shuffle, grouped convolutions, parameter-free shortcuts) it cuts the wrong channels, often without an
error. So each group is tried once: first the weights that read the channels are set to zero, then the channels are cut.
Both networks must give the same answers; whatever connects channels otherwise than torch-pruning believes shows here.
"""

from __future__ import annotations

import torch
import torch_pruning as tp
from torch import Tensor, fx, nn

from pipeline.errors import CutError, first_line
from pipeline.pruning.prune import coupled, width

_TOLERANCE = 1e-3
"""Of what the channels contribute to the answers."""
_ROUNDING = 1e-5
"""Of the answers: float32's rounding over a deep network."""


def half_of(network: fx.GraphModule, graph: tp.DependencyGraph, name: str) -> tp.Group:
    """Return what goes with the first half of a group's channels; raise CutError where it cannot go."""
    root = network.get_submodule(name)
    if width(root) < 2:
        raise CutError("it has a single channel")
    try:
        group = coupled(graph, root, list(range(width(root) // 2)))
    except CutError:
        raise
    except Exception as error:  # torch-pruning raises whatever its index arithmetic runs into
        raise CutError(f"torch-pruning cannot cut it: {first_line(error)}") from error
    _refuse_grouped(group)
    return group


def cut_and_compare(network: fx.GraphModule, group: tp.Group, example: Tensor) -> None:
    """Cut ``group`` out of ``network``, in place.

    Raises:
        CutError: the cut network does not run, or is another than the one that ignores these channels; it is broken
            then.
    """
    before = _answers(network, example)
    _stop_reading(group)
    unread = _answers(network, example)
    try:
        group.prune()
        after = _answers(network, example)
    except Exception as error:  # whatever a network raises whose layers no longer fit together
        raise CutError(f"the network does not run without half of its channels: {first_line(error)}") from error
    _require_equal(before, unread, after, exact=not _normalised_across(group))


def _answers(network: nn.Module, example: Tensor) -> Tensor:
    with torch.no_grad():
        answers: Tensor = network(example)
    return answers


def _refuse_grouped(group: tp.Group) -> None:
    for item in group:
        layer = item.dep.target.module
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not _is_depthwise(layer):
            raise CutError(f"it passes a convolution of {layer.groups} groups, whose channels cannot go one by one")


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels == layer.out_channels


def _stop_reading(group: tp.Group) -> None:
    """Set to zero the weights by which layers read the group's channels."""
    for item in group:
        layer = item.dep.target.module
        reads = "in_channels" in item.dep.handler.__name__
        if reads and isinstance(layer, (nn.Conv2d, nn.Linear)) and getattr(layer, "groups", 1) == 1:
            with torch.no_grad():
                layer.weight[:, item.idxs] = 0


def _normalised_across(group: tp.Group) -> bool:
    """Return whether channels that stay are scaled by those that go, so that the answers legitimately change."""
    return any(isinstance(item.dep.target.module, (nn.GroupNorm, nn.LayerNorm)) for item in group)


def _require_equal(before: Tensor, unread: Tensor, after: Tensor, *, exact: bool) -> None:
    if after.shape != before.shape:
        raise CutError("it makes the output")
    if not torch.isfinite(after).all():
        raise CutError("the network's answers are not finite without half of its channels")
    allowed = _TOLERANCE * (before - unread).abs().max() + _ROUNDING * unread.abs().max()
    if exact and (after - unread).abs().max() > allowed:
        raise CutError(
            "cut, it gives another network than one that ignores its channels: it is connected in a way "
            "that torch-pruning does not follow"
        )
