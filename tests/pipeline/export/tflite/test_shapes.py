from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.tflite.shapes import Operation, Shape, resolve


def operation(kind: str, *inputs: tuple[Shape, Shape], output: Shape, **more: Any) -> Operation:
    """An operator whose inputs had the first shapes and have the second now."""
    constants = {position: np.array(values, np.int32) for position, values in more.pop("constants", {}).items()}
    return Operation(
        kind=kind, options=SimpleNamespace(**more), before=[old for old, _ in inputs],
        inputs=[new for _, new in inputs], output=output, constants=constants,
    )  # fmt: skip


IMAGE = ((1, 8, 8, 16), (1, 8, 8, 12))


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (operation("CONV_2D", IMAGE, ((32, 3, 3, 16), (24, 3, 3, 12)), output=(1, 4, 4, 32)), (1, 4, 4, 24)),
        (operation("CONV_2D", IMAGE, ((16, 3, 3, 4), (12, 3, 3, 3)), output=(1, 8, 8, 16)), (1, 8, 8, 12)),
        (operation("FULLY_CONNECTED", ((1, 64), (1, 48)), ((10, 64), (10, 48)), output=(1, 10)), (1, 10)),
        (operation("MAX_POOL_2D", IMAGE, output=(1, 4, 4, 16)), (1, 4, 4, 12)),
        (operation("ADD", IMAGE, IMAGE, output=(1, 8, 8, 16)), (1, 8, 8, 12)),
        (operation("MUL", IMAGE, ((1, 1, 1, 16), (1, 1, 1, 12)), output=(1, 8, 8, 16)), (1, 8, 8, 12)),
        (operation("CONCATENATION", IMAGE, ((1, 8, 8, 4),) * 2, output=(1, 8, 8, 20), axis=-1), (1, 8, 8, 16)),
        (operation("TRANSPOSE", IMAGE, output=(1, 16, 8, 8), constants={1: [0, 3, 1, 2]}), (1, 12, 8, 8)),
        (operation("MEAN", IMAGE, output=(1, 16), constants={1: [2, 1]}, keepDims=False), (1, 12)),
        (operation("MEAN", IMAGE, output=(1, 1, 1, 16), constants={1: [-2, 1]}, keepDims=True), (1, 1, 1, 12)),
        (operation("PAD", IMAGE, output=(1, 8, 8, 32), constants={1: [[0, 0]] * 3 + [[8, 8]]}), (1, 8, 8, 28)),
        (operation("TOPK_V2", ((1, 10),) * 2, output=(1, 3)), (1, 3)),
    ],
)
def test_channels_come_out_as_they_went_in(op: Operation, expected: Shape) -> None:
    assert resolve(op).outputs == (expected,)


def test_a_depthwise_convolution_learns_its_multiplier() -> None:
    one = ((1, 8, 8, 1),) * 2
    found = resolve(operation("DEPTHWISE_CONV_2D", one, ((1, 3, 3, 32), (1, 3, 3, 24)), output=(1, 8, 8, 32)))
    assert (found.outputs, found.options) == (((1, 8, 8, 24),), {"depthMultiplier": 24})


def test_what_is_flattened_gets_shorter() -> None:
    flat = operation("RESHAPE", ((1, 16, 4, 4), (1, 12, 4, 4)), output=(1, 256), constants={1: [1, 256]})
    found = resolve(flat)
    assert found.outputs == ((1, 192),)
    assert found.constants[1].tolist() == [1, 192]


def test_a_slice_over_the_image_takes_all_channels_that_are_left() -> None:
    masks = dict.fromkeys(("ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
    bounds = {1: [0, 0, 0, 0], 2: [1, 8, 8, 16], 3: [1, 2, 1, 1]}
    found = resolve(operation("STRIDED_SLICE", IMAGE, output=(1, 4, 8, 16), constants=bounds, **masks))
    assert found.outputs == ((1, 4, 8, 12),)
    assert found.constants[2].tolist() == [1, 8, 8, 12]


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (operation("CONV_2D", IMAGE, ((8, 1, 1, 16),) * 2, output=(1, 8, 8, 8)), "16 channels a group would get 12"),
        (operation("DEPTHWISE_CONV_2D", IMAGE, ((1, 3, 3, 16),) * 2, output=(1, 8, 8, 16)), "16 filters would get 12"),
        (operation("FULLY_CONNECTED", ((1, 64), (1, 48)), ((10, 64),) * 2, output=(1, 10)), "64 values would get 48"),
        (operation("ADD", IMAGE, (IMAGE[0],) * 2, output=IMAGE[0]), "would join shapes"),
        (operation("RESHAPE", IMAGE, output=(1, 4, 16, 16), constants={1: [1, 4, 16, 16]}), "is ambiguous"),
        (operation("SLICE", IMAGE, output=(1, 8, 8, 8), constants={1: [0] * 4, 2: [1, 8, 8, 8]}), "a part of the"),
        (operation("TRANSPOSE", IMAGE, output=(1, 16, 8, 8)), "computes its input 1 while running"),
        (operation("GATHER", IMAGE, output=(1, 8, 8, 16)), "GATHER follows a layer that was cut"),
    ],
)
def test_what_is_not_known_is_refused_by_name(op: Operation, why: str) -> None:
    with pytest.raises(FastPathUnsupportedError, match=why):
        resolve(op)
