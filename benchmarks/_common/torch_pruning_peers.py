"""Torch-Pruning's pruners, each a network at a ratio: what a user of that library would get from one call.

Of CIFAR ResNets with parameter-free shortcuts (option A) only the inner channels of each block are cut: cut on the
residual stream, Torch-Pruning gives networks whose forward pass fails. The classifier is never cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cifar_resnet import CifarResNet

Batches = Iterable[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One of Torch-Pruning's ways to choose channels."""

    importance: Callable[[], Any]
    everywhere: bool = True
    """Whether channels of all layers compete (global pruning), or each layer loses the same share."""
    gradients: bool = False


PEERS = {
    "global magnitude": Peer(lambda: tp.importance.GroupMagnitudeImportance(p=2)),
    "global Taylor": Peer(tp.importance.GroupTaylorImportance, gradients=True),
    "global BN scale": Peer(tp.importance.BNScaleImportance),
    "FPGM, uniform": Peer(tp.importance.FPGMImportance, everywhere=False),
}


def pruned(
    model: nn.Module, example: Tensor, ratio: float, peer: Peer, images: Batches = (), *, round_to: int | None = None
) -> nn.Module:
    """Return a copy of ``model`` that Torch-Pruning has cut once at ``ratio``; batch norm is as it was.

    Args:
        images: what gradients are taken over, for a peer that reads them.
        round_to: kept channels are multiples of this.
    """
    copied = copy.deepcopy(model).eval()
    pruner = tp.pruner.BasePruner(
        copied, example, importance=peer.importance(), global_pruning=peer.everywhere, pruning_ratio=ratio,
        ignored_layers=_left_whole(copied), round_to=round_to,
    )  # fmt: skip
    if peer.gradients:
        for batch, labels in images:
            functional.cross_entropy(copied(batch), labels).backward()  # type: ignore[no-untyped-call]
    pruner.step()
    copied.zero_grad(set_to_none=True)
    return copied


def _left_whole(model: nn.Module) -> list[nn.Module]:
    layers: dict[str, nn.Module] = {
        name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    if isinstance(model, CifarResNet):
        return [m for name, m in layers.items() if not (name.startswith("layer") and name.endswith(".conv1"))]
    classifiers = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
    return [layers[name] for name in classifiers[-1:]]
