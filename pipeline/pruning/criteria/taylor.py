"""First-order Taylor: the change of the loss when a channel is zeroed (Molchanov et al., 2019).

A channel's score is the sum over the layers that make it (convolutions, linear layers and, unlike torch-pruning's
GroupTaylorImportance, batch norms) of |Σ w · ∂L/∂w| over the channel's own parameters.
"""

import torch
import torch_pruning as tp
from torch import Tensor, nn

NEEDS_GRADIENTS = True


def score(group: tp.Group) -> Tensor:
    """Return one score a channel; gradients must have been accumulated."""
    total = torch.zeros(len(group[0].idxs))
    for dependency, indices, root_indices in _with_roots(group):
        module = dependency.target.module
        if not isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)) or not _makes(dependency):
            continue
        for parameter in (module.weight, module.bias):
            if parameter is not None and parameter.grad is not None:
                change = (parameter * parameter.grad).detach().flatten(1) if parameter.dim() > 1 else None
                effect = change.sum(1) if change is not None else (parameter * parameter.grad).detach()
                total.index_add_(0, root_indices, effect[indices].abs())
    return total


def _makes(dependency: tp.Dependency) -> bool:
    return "out_channels" in dependency.handler.__name__


def _with_roots(group: tp.Group) -> list[tuple[tp.Dependency, Tensor, Tensor]]:
    """Return each dependency with its own channel indices and those of the root that they belong to."""
    items = []
    for item in group:
        roots = getattr(item, "root_idxs", None) or list(range(len(item.idxs)))
        items.append((item.dep, torch.tensor(item.idxs), torch.tensor(roots)))
    return items
