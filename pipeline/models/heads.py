"""A network's last layer: found, and replaced by a new one for other classes, as transfer learning begins."""

from __future__ import annotations

from torch import fx, nn

from pipeline.errors import ModelError


def find_head(model: nn.Module) -> str:
    """Return the name of the layer that gives the scores: the last Linear or 1x1 convolution on the way through.

    In a network that cannot be traced it is the last one in the order in which layers were made.

    Raises:
        ModelError: there is none.
    """
    modules = dict(model.named_modules())
    heads = [name for name in _in_order(model) if name and _gives_scores(modules[name])]
    if not heads:
        raise ModelError("the network has no Linear layer and no 1x1 convolution at its end that could be replaced")
    return heads[-1]


def replace_head(model: nn.Module, classes: int) -> str:
    """Put a new layer with random weights in the place of the last one; return its name.

    Raises:
        ModelError: there is none.
    """
    name = find_head(model)
    old = model.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    else:
        assert isinstance(old, (nn.Conv1d, nn.Conv2d))  # as find_head says
        kind = nn.Conv1d if isinstance(old, nn.Conv1d) else nn.Conv2d
        new = kind(old.in_channels, classes, 1, bias=old.bias is not None)
    model.set_submodule(name, new)
    return name


def _in_order(model: nn.Module) -> list[str]:
    """Return the layers' names in the order in which an image passes them."""
    try:
        nodes = fx.symbolic_trace(model).graph.nodes
    except Exception:  # tracing runs the user's code, which may raise anything
        return list(dict(model.named_modules()))
    return [str(node.target) for node in nodes if node.op == "call_module"]


def _gives_scores(module: nn.Module) -> bool:
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return set(module.kernel_size) == {1} and module.groups == 1
    return isinstance(module, nn.Linear)
