"""Float blocks by time: neighbouring layers that a board computes faster in float32 than in INT8.

Narrow and depthwise layers may be slower in INT8, but what lies between the two precisions costs time as well, so that
figures of single layers do not tell. Each block is measured in float32 within the network; those by which that is
faster are measured together, in turns with the network in INT8 throughout, and taken only where that is sure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.quantization.float_runs import runs
from pipeline.records import Interval

Block = tuple[str, ...]
LEAST_GAIN = 0.005
"""Of the whole network's latency: less is not looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatBlocks:
    """Layers that stay float32 because the board is faster so."""

    layers: tuple[str, ...]
    ratio: Interval
    """The network's latency over that of the same network in INT8 throughout, measured in turns."""


def float_blocks(
    layers: Sequence[str],
    whole: float,
    latency: Callable[[Block], float | None],
    beside_whole: Callable[[Block], Interval | None],
) -> FloatBlocks | None:
    """Return the blocks to keep float32; None: INT8 throughout is as fast as anything.

    Args:
        layers: with weights, in INT8 now, in the order in which they run.
        whole: the network's latency in INT8 throughout, over the base model's.
        latency: measures the network with a block in float32, over the base model's; None: it cannot be had.
        beside_whole: measures it in turns with the network in INT8 throughout; None: it cannot be had.
    """
    blocks = [tuple(run) for run in runs(layers) if len(run) < len(layers)]
    found = [(ratio, block) for block in blocks if (ratio := latency(block)) is not None]
    promising = [block for ratio, block in sorted(found) if ratio < whole - LEAST_GAIN]
    if not promising:
        return None
    together = tuple(layer for layer in layers if any(layer in block for block in promising))
    for tried in dict.fromkeys([together, promising[0]]):
        if set(tried) >= set(layers):
            continue
        measured = beside_whole(tried)
        if measured is not None and measured.high < 1:
            return FloatBlocks(layers=tried, ratio=measured)
    return None
