"""Which channels go first: a criterion's scores of the base network, as an order for each group."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx
from torch.nn import functional

from pipeline import plugins
from pipeline.pruning.groups import coupled_channels
from pipeline.pruning.prune import Ranking
from pipeline.records import SearchSpace

Batches = Iterable[tuple[Tensor, Tensor]]


def rank(
    model: fx.GraphModule, space: SearchSpace, criterion: str, example: Tensor, batches: Batches, *, seed: int = 0
) -> Ranking:
    """Return each group's channel indices, least important first; ties keep their index order.

    Args:
        criterion: a file's name in ``pruning/criteria``.
        batches: images and labels for criteria that need gradients; they are read only then.

    Raises:
        ConfigError: there is no such criterion; names the nearest one.
    """
    plugin = plugins.load("pipeline.pruning.criteria", criterion)
    if plugin.NEEDS_GRADIENTS:
        _accumulate_gradients(model, batches)
    members = coupled_channels(model, example)
    with torch.random.fork_rng(devices=[]):  # criteria may draw; nobody else's draws change by it
        torch.manual_seed(seed)
        order = {g.name: torch.argsort(plugin.score(members[g.name]), stable=True) for g in space.groups}
    model.zero_grad(set_to_none=True)
    return order


def _accumulate_gradients(model: fx.GraphModule, batches: Batches) -> None:
    """Sum the loss's gradients over ``batches`` in eval mode, so that batch norm's statistics stay as they are."""
    model.zero_grad(set_to_none=True)
    for images, labels in batches:
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
