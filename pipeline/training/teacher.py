"""Teacher: the base network, asked once for each augmented view of an image, its answers kept in memory.

Knowledge is distilled best where teacher and pupil see the same view (Beyer et al., "Knowledge distillation: A good
teacher is patient and consistent", 2022), and answers to a fixed set of views can be kept (Shen and Xing, "A Fast
Knowledge Distillation Framework for Visual Recognition", 2022). The feed repeats its passes, so a batch is known by its
place in them.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from pipeline import structures
from pipeline.structures import Inputs
from pipeline.training.accelerator import Accelerator, channels_last
from pipeline.training.feed import View
from pipeline.training.loss import in_float32

KEPT_BYTES = 512 * 2**20
"""Of answers; what is beyond is asked for anew."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Teacher:
    """A network to ask, and the answers that are known."""

    def __init__(self, network: nn.Module, on: Accelerator, *, kept_bytes: int = KEPT_BYTES) -> None:
        """Make ready to ask ``network`` on this accelerator; it is left as it is."""
        self._network = ready_to_ask(network, on)
        self._known: dict[View, Any] = {}
        self._left_bytes = kept_bytes

    def answers(self, x: Inputs, view: View | None) -> Any:
        """Return the answers to a batch, float32; as many images give the same bits, kept or not.

        Args:
            x: the images (N, C, ...), or a tuple of inputs, on the accelerator.
            view: by which the batch is known when it comes again; None: it does not.
        """
        known = None if view is None else self._known.get(view)
        if known is None:
            with torch.inference_mode():
                known = structures.answer(self._network, x)
            size = sum(part.numel() * part.element_size() for part in structures.tensors(known).values())
            if view is not None and size <= self._left_bytes:
                self._known[view] = structures.mapped(known, Tensor.cpu)
                self._left_bytes -= size
        device = structures.arguments(x)[0].device
        there = in_float32(structures.mapped(known, lambda part: part.to(device)))
        return structures.mapped(there, torch.clone)  # outside of inference mode, so that a loss may keep it


def ready_to_ask(network: nn.Module, on: Accelerator) -> nn.Module:
    """Return a network that answers as ``network`` does in eval mode, on the accelerator, and sooner if possible."""
    if not isinstance(network, fx.GraphModule):
        return on.copy_of(network).eval()
    return channels_last(with_folded_norms(network)).to(on.device)


def with_folded_norms(network: fx.GraphModule) -> fx.GraphModule:
    """Return a copy in eval mode with batch norm folded into the convolutions before it: a third faster to ask."""
    folded = copy.deepcopy(network).eval()
    layers, graph = dict(folded.named_modules()), folded.graph
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = layers[str(before.target)], layers[str(node.target)]
        if not isinstance(conv, _CONVOLUTIONS) or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        if calls[before.target] == calls[node.target] == 1:
            folded.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            graph.erase_node(node)
    folded.recompile()
    return folded
