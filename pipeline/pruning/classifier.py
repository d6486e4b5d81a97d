"""The layer that gives the class scores, fitted anew after a cut to the scores of before it.

Batch norm re-estimated mends every layer but the last one: nothing normalises what comes after it. What the last layer
gets from a network that lost channels or whole blocks is not what it was trained on, while what it should say is known:
what the network said before the cut. So its weights are moved by a ridge regression of what is missing, in closed form;
how strongly it is held back is found by leave-one-out, in closed form as well. No label is needed.

Of He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017 (least squares after a cut), the last
layer's part alone: it costs no further pass, as its inputs come by when batch norm is re-estimated.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, fx, nn

_STRENGTHS = np.logspace(-3, 2, 11)
"""Of the ridge, in units of the inputs' mean variance, summed over the images."""
_FEWEST_IMAGES = 32
"""With fewer, leaving one out says too little."""


def classifier_of(network: nn.Module) -> nn.Linear | None:
    """Return the layer whose answer is the network's.

    None where that is no plain Linear of its own, or one that was thinned out: fitting it would fill its zeros.
    """
    if not isinstance(network, fx.GraphModule):
        return None
    last = network.graph.output_node().args[0]
    if not isinstance(last, fx.Node) or last.op != "call_module":
        return None
    layer = network.get_submodule(str(last.target))
    if type(layer) is not nn.Linear or not _used_once(network, str(last.target), layer) or not layer.weight.all():
        return None
    return layer


def fit_classifier(layer: nn.Linear, inputs: Tensor, wanted: Tensor) -> None:
    """Move a layer's weights, in place, so that it answers as it should.

    Left as they are where the images are few, or the inputs say nothing: all alike, or not finite.

    Args:
        layer: as :func:`classifier_of` found it.
        inputs: what it gets, (images, features).
        wanted: what it should answer, (images, classes).
    """
    from sklearn.linear_model import RidgeCV  # takes a second to import

    with torch.no_grad():
        missing = wanted - layer(inputs)
    if inputs.dim() != 2 or len(inputs) < _FEWEST_IMAGES or not missing.isfinite().all():
        return
    seen = inputs.double().numpy()
    spread = len(seen) * float(seen.var(0).mean())
    if spread == 0:
        return
    found = RidgeCV(alphas=spread * _STRENGTHS, fit_intercept=layer.bias is not None).fit(
        seen, missing.double().numpy()
    )
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(found.coef_))
        if layer.bias is not None:
            layer.bias.add_(torch.from_numpy(found.intercept_))


def _used_once(network: fx.GraphModule, name: str, layer: nn.Linear) -> bool:
    calls = sum(node.op == "call_module" and node.target == name for node in network.graph.nodes)
    owners = sum(parameter is layer.weight for _, parameter in network.named_parameters(remove_duplicate=False))
    return calls == 1 and owners == 1
