"""Saturation: an x86 processor without VNNI adds two products of uint8 and int8 in int16, which they may not fit into.

ONNX Runtime computes in uint8 × int8 on x86, whichever is written, and such a sum is cut off without a word: 2 × 255 ×
127 is more than 32,767. Weights of seven bits keep it below (ONNX Runtime's documentation on quantization calls it
reduce_range); they cost a fiftieth of a point of a ResNet-20.

The host counts as well as the board: it reads the accuracy by which networks are chosen, and that has to be the
accuracy of what runs. So where either saturates, the file for both has seven bits.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.records import Processor, WeightBits


def weight_bits(processors: Iterable[Processor]) -> WeightBits:
    """Return the bits of an ONNX file's int8 weights by which all processors that run it compute right.

    >>> weight_bits([Processor("aarch64"), Processor("x86_64", has_vnni=True)]), weight_bits([Processor("x86_64")])
    (8, 7)
    """
    return 7 if any(processor.saturates for processor in processors) else 8
