"""Padded shortcuts as convolutions: the same values, in the layout that the convolutions around them have.

A ResNet's shortcut without parameters (option A: every second pixel, and channels of zeros to reach the new width) is
exported as slices and a padding. A runtime that keeps channels in blocks, as onnxruntime does on x86, has to leave that
layout for them, and can no longer fuse the addition behind them. A 1x1 convolution whose weights are ones and zeros
picks the same pixels (``benchmarks/padded_shortcuts.py`` measures what that saves).
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.onnx.shape_inference import dry_run
from pipeline.structures import Inputs


@dataclass(frozen=True, slots=True)
class _Shortcut:
    pad: fx.Node
    source: fx.Node
    strides: tuple[int, int]
    before: int
    """Channels of zeros."""
    after: int


def with_convolutions(network: fx.GraphModule, example: Inputs) -> fx.GraphModule:
    """Return ``network`` with each padded shortcut as a convolution; the very network where there is none.

    Weights are shared with it. Answers are the same to the bit, as long as they are finite.

    Args:
        example: a batch, of which the shapes count.
    """
    if not any(_shortcut(node) for node in network.graph.nodes):
        return network
    lowered = fx.GraphModule(network, copy.deepcopy(network.graph))
    try:
        results = dry_run(lowered, example)
    except FastPathUnsupportedError:  # an operation has no shape without values
        return network
    for node in list(lowered.graph.nodes):
        found = _shortcut(node)
        if found and results[found.source].dim() == 4:
            _replace(lowered, found, results[found.source].shape[1])
    lowered.graph.eliminate_dead_code()
    lowered.recompile()
    return lowered


def _shortcut(node: fx.Node) -> _Shortcut | None:
    """Return what a padding of channels is, with the slices before it that nothing else reads.

    Without slices it is left alone: a network that widens in every block would multiply more than the layout is worth.
    """
    if node.op != "call_function" or node.target is not functional.pad:
        return None
    arguments: dict[str, Any] = {**dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)), **node.kwargs}
    sizes, source = arguments["pad"], arguments["input"]
    if (
        arguments.get("mode", "constant") != "constant"
        or arguments.get("value") not in (None, 0)
        or not _are_channels(sizes)
    ):
        return None
    strides = _strides(source)
    if strides is None or len(source.users) > 1:
        return None
    return _Shortcut(node, source.args[0], strides, *sizes[4:])


def _are_channels(sizes: Any) -> bool:
    """Return whether ``F.pad`` adds channels to images and nothing else."""
    return (
        isinstance(sizes, (list, tuple)) and len(sizes) == 6 and all(isinstance(s, int) for s in sizes)
        and not any(sizes[:4]) and min(sizes[4:]) >= 0
    )  # fmt: skip


def _strides(node: fx.Node) -> tuple[int, int] | None:
    """Return the steps of ``x[:, :, ::a, ::b]``."""
    picked: Any = node.args[1] if node.target is operator.getitem else None
    if not isinstance(picked, tuple) or len(picked) != 4 or not all(isinstance(part, slice) for part in picked):
        return None
    steps = [1 if part.step is None else part.step for part in picked]
    begins_at_the_edge = all(part.start in (None, 0) and part.stop is None for part in picked)
    if not begins_at_the_edge or steps[:2] != [1, 1] or not all(isinstance(step, int) for step in steps):
        return None
    return steps[2], steps[3]


def _replace(network: fx.GraphModule, found: _Shortcut, channels: int) -> None:
    width = found.before + channels + found.after
    layer = nn.Conv2d(channels, width, 1, stride=found.strides, bias=False).requires_grad_(requires_grad=False)
    layer.weight.copy_(torch.eye(width)[:, found.before : found.before + channels, None, None])
    name = f"{found.pad.name}_of_{found.source.name}"
    network.add_submodule(name, layer.train(network.training))
    with network.graph.inserting_after(found.pad):
        call = network.graph.call_module(name, (found.source,))
    found.pad.replace_all_uses_with(call)
