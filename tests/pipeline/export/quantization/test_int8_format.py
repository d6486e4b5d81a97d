"""INT8 as a format: files, and probes that depend on the structure alone and are fused like the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from pipeline.export.format import open_format
from pipeline.export.formats.onnx import Onnx
from pipeline.export.quantization.fused_operators import int8_operators, operators
from pipeline.export.quantization.int8_format import Int8Onnx
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.qdq import S8S8, U8S8
from pipeline.pruning.trace import trace
from tests.pipeline.export.quantization.networks import HERE, IMAGES, LIMITS, NETWORKS, trained


def formats(name: str) -> tuple[torch.fx.GraphModule, Int8Onnx]:
    network = trace(trained(name), IMAGES[:4], classes=5)
    parent = open_format("onnx", network, IMAGES[:4], support=LIMITS)
    assert isinstance(parent, Onnx)
    return network, Int8Onnx(parent=parent, images=IMAGES[:32].numpy(), settings=Int8Settings(scheme=HERE))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_probe_has_the_operators_of_the_file_that_it_stands_for(name: str) -> None:
    from tests.pipeline.export.onnx.test_skeleton import expanded

    network, format = formats(name)
    file, probe = format.file(network), format.skeleton(network)
    assert dict(operators(expanded(probe.data))) == dict(operators(file))
    assert probe.int8_operators == format.quantized(network).planned
    assert int8_operators(operators(file)) >= probe.int8_operators
    assert len(probe.data) < len(file)
    assert abs(probe.size_bytes - len(file)) < 0.02 * len(file)


def test_probes_of_equal_structures_are_equal_whatever_the_weights() -> None:
    network, format = formats("residual")
    before = format.skeleton(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.7).add_(0.01)
    after = format.skeleton(network)
    assert after == before
    assert before.structure != format.parent.skeleton(network).structure


def test_a_probe_is_the_same_whatever_bits_the_weights_have() -> None:
    """So that a recording, and an engine, serve either."""
    network, format = formats("residual")
    eight, seven = (replace(format, settings=Int8Settings(scheme=replace(U8S8, weight_bits=n))) for n in (8, 7))
    assert eight.skeleton(network) == seven.skeleton(network)
    assert eight.file(network) != seven.file(network)


def test_a_structure_says_how_it_is_quantized() -> None:
    """Figures of one hold for all of a structure, so two ways to quantize one network must not have the same."""
    network, format = formats("residual")
    first, second = frozenset({"stem.0.weight", "first.0.weight"}), frozenset({"second.0.weight", "down.0.weight"})
    floats = [Int8Settings(float_layers=layers) for layers in (first, second)]
    ways = [Int8Settings(), Int8Settings(scheme=S8S8), *floats]
    names = {way.structure(network) for way in ways}
    assert len(names) == len(ways)
    assert replace(format, settings=ways[1]).skeleton(network).structure in names


def test_layers_named_stay_float() -> None:
    network, whole = formats("residual")
    names = [tensor.name for tensor in onnx.load_from_string(whole.parent.file(network)).graph.initializer]
    ends = frozenset(name for name in names if name.startswith(("stem.0", "fc")))
    kept = Int8Onnx(parent=whole.parent, images=whole.images, settings=Int8Settings(float_layers=ends, scheme=HERE))
    assert set(kept.quantized(network).float_layers) == {name for name in ends if "bias" not in name}
    assert kept.skeleton(network).int8_operators < whole.skeleton(network).int8_operators
    assert kept.skeleton(network).structure != whole.skeleton(network).structure
    images = IMAGES[:8].numpy()
    float_scores = whole.parent.answers(whole.parent.file(network), images)
    assert np.abs(kept.answers(kept.file(network), images) - float_scores).max() < 0.06 * np.abs(float_scores).max()
