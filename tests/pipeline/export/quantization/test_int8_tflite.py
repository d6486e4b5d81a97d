"""INT8 TFLite as a format: files that answer as float, and probes that depend on the structure alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pipeline.errors import ExportError
from pipeline.export.constants import distinct
from pipeline.export.format import open_format
from pipeline.export.formats.tflite import TFLite, template_of
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.int8_tflite import Int8TFLite
from pipeline.export.quantization.litert_quantizer import FloatFile, quantize
from pipeline.export.quantization.open_int8 import open_int8
from pipeline.export.quantization.qdq import U8S8
from pipeline.export.tflite import flatbuffer
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from tests.pipeline.export.quantization import networks
from tests.pipeline.export.tflite.test_skeleton import expanded
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, Tiny, tiny
from tests.pipeline.pruning.networks import in_order

CALIBRATING: NDArray[np.float32] = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(3)).numpy()
TENSOR_TYPES = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT8: "int8", schema.TensorType.INT32: "int32"}


@pytest.fixture(scope="module")
def format() -> Int8TFLite:
    """Of the stored file; its converter is a Python that has none."""
    parent = TFLite(Path(sys.executable), template_of(CONVERTED.read_bytes(), tiny(), IMAGES), IMAGES)
    opened = open_int8(parent, CALIBRATING)
    assert isinstance(opened, Int8TFLite)
    return opened


@pytest.fixture(scope="module")
def network() -> fx.GraphModule:
    return tiny(seed=4)


def structure(data: bytes) -> list[tuple[object, ...]]:
    """Kind, and the shapes and types of what is read and written, of each operator."""
    model = flatbuffer.read(data)
    graph = model.subgraphs[0]
    tensors = [(flatbuffer.shape(tensor), TENSOR_TYPES[tensor.type]) for tensor in graph.tensors]
    return [(flatbuffer.kind(model, o), *(tensors[i] for i in (*o.inputs, *o.outputs))) for o in graph.operators]


def test_a_file_answers_almost_as_its_float_parent(format: Int8TFLite, network: fx.GraphModule) -> None:
    parent, made = format.parent.file(network), format.quantized(network)
    before, after = (open_on_host(file)(CALIBRATING) for file in (parent, made.data))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.9
    assert np.array_equal(format.answers(made.data, CALIBRATING), after)
    assert len(made.data) < 0.6 * len(parent)
    assert format.file(network) == made.data


def test_all_but_the_ends_computes_in_int8(format: Int8TFLite, network: fx.GraphModule) -> None:
    made = format.quantized(network)
    found = structure(made.data)
    kinds = [str(kind) for kind, *_ in found]
    assert (kinds[0], kinds[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert {"QUANTIZE", "DEQUANTIZE"}.isdisjoint(kinds[1:-1])
    assert made.operators == len(kinds) - 2
    assert found[0][1] == ((1, 3, 16, 16), "float32")
    assert found[-1][2] == ((1, 5), "float32")
    model = flatbuffer.read(made.data)
    graph = model.subgraphs[0]
    assert [graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)] == [b"image", b"scores"]
    assert [entry.tensorIndex for entry in model.signatureDefs[0].outputs] == list(graph.outputs)


def test_ranges_are_of_the_values_that_the_network_computes(format: Int8TFLite, network: fx.GraphModule) -> None:
    ranges = FloatFile(format.parent.file(network)).ranges(CALIBRATING)
    images = torch.from_numpy(CALIBRATING)
    with torch.no_grad():
        scores = network(images)
        stem = network.get_submodule("norm")(network.get_submodule("stem")(images)).relu()
    by_name = {name.partition(":")[2]: found for name, found in ranges.items()}
    assert by_name["image"] == (CALIBRATING.min(), CALIBRATING.max())
    assert by_name["scores"] == pytest.approx((float(scores.min()), float(scores.max())), rel=1e-4)
    assert (0.0, pytest.approx(float(stem.max()), rel=1e-4)) in ranges.values()


def test_a_value_that_is_not_finite_is_named(format: Int8TFLite, network: fx.GraphModule) -> None:
    with pytest.raises(ExportError, match="is not finite over the calibration images"):
        FloatFile(format.parent.file(network)).ranges(np.full_like(CALIBRATING[:1], np.inf))


def test_every_tensor_gets_a_name_of_its_own(format: Int8TFLite, network: fx.GraphModule) -> None:
    """The quantizer knows them by their names, and a rewritten file leaves most without."""
    data = format.parent.file(network)
    before = [tensor.name for tensor in flatbuffer.read(data).subgraphs[0].tensors]
    after = [tensor.name for tensor in FloatFile(data).model.subgraphs[0].tensors]
    assert len(set(before)) < len(before)
    assert len(set(after)) == len(after)
    assert all(new.endswith(old) for new, old in zip(after, before, strict=True))


class Wide(Tiny):
    """Of which the quantizer writes the weights behind the tables, as it does in all files of more than 256 kB."""

    def __init__(self) -> None:
        super().__init__()
        width = 2000
        self.same[0], self.same[1] = nn.Conv2d(8, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.same[3] = nn.Conv2d(width, 8, 3, padding=1, bias=False)


@pytest.mark.slow
def test_a_large_file_is_whole_in_itself(format: Int8TFLite) -> None:
    network = distinct(trace(Wide(), IMAGES), seed=5)
    data = format.file(network)
    assert len(data) > 256 * 1024
    assert all(buffer.offset == 0 for buffer in schema.ModelT.InitFromPackedBuf(data, 0).buffers)
    before = format.answers(format.parent.file(network), CALIBRATING)
    assert np.abs(format.answers(data, CALIBRATING) - before).max() < 0.05 * np.abs(before).max()
    assert len(format.skeleton(network).data) < 0.02 * len(data)


@pytest.mark.parametrize(("layer", "norm"), [("stem", "norm"), ("inverted.3", "inverted.4"), ("linear", None)])
def test_a_bias_that_is_all_that_is_left_of_a_channel_counts(format: Int8TFLite, layer: str, norm: str | None) -> None:
    """The quantizer takes the scale of the weights alone, in which this bias would not fit int32."""
    network = tiny(seed=4)
    weights = network.get_submodule(layer).weight
    bias = network.get_submodule(norm or layer).bias
    assert isinstance(weights, torch.Tensor)
    assert isinstance(bias, torch.Tensor)
    with torch.no_grad():
        weights[1] *= 1e-12
        if norm:
            network.get_submodule(norm).running_mean[1] = 0
        bias[1] = 5
    before = format.answers(format.parent.file(network), CALIBRATING)
    after = format.answers(format.file(network), CALIBRATING)
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()


# ---------------------------------------------------------------- probes


def test_a_probe_is_the_file_without_what_training_has_found(format: Int8TFLite, network: fx.GraphModule) -> None:
    file, probe = format.file(network), format.skeleton(network)
    whole = expanded(probe.data)
    assert structure(whole) == structure(file)
    assert probe.size_bytes == len(file)
    assert len(probe.data) < 0.2 * len(file)
    assert np.isfinite(open_on_host(whole)(CALIBRATING[:2])).all()


def test_probes_of_equal_structures_are_equal_whatever_the_weights(format: Int8TFLite, network: fx.GraphModule) -> None:
    probe = format.skeleton(network)
    assert format.skeleton(tiny(seed=9)) == probe
    assert probe.structure != format.parent.skeleton(network).structure


def test_a_cut_network_has_a_probe_of_its_own(format: Int8TFLite, network: fx.GraphModule) -> None:
    space = search_space(network, IMAGES, step=2)
    for level in (50, 100):
        levels = tuple(level if level in group.kept else 0 for group in space.groups)
        pruned = prune(network, space, levels, in_order(space), IMAGES)
        file, probe = format.file(pruned), format.skeleton(pruned)
        assert structure(expanded(probe.data)) == structure(file)
        assert probe.structure != format.skeleton(network).structure
        before = format.answers(format.parent.file(pruned), CALIBRATING)
        assert np.abs(format.answers(file, CALIBRATING) - before).max() < 0.05 * np.abs(before).max()


def test_the_bits_of_onnx_weights_change_nothing_of_a_tflite_file(format: Int8TFLite, network: fx.GraphModule) -> None:
    seven = Int8Settings(scheme=replace(U8S8, weight_bits=7))
    made = Int8TFLite(parent=format.parent, images=format.images, settings=seven).quantized(network)
    assert (made.data, made.scheme.weight_bits) == (format.file(network), 8)


# ---------------------------------------------------------------- layers that stay float


def test_layers_named_stay_float(format: Int8TFLite, network: fx.GraphModule) -> None:
    names = frozenset({"same.0.weight", "same.3.weight"})
    kept = Int8TFLite(parent=format.parent, images=format.images, settings=Int8Settings(float_layers=names))
    whole, made = format.quantized(network), kept.quantized(network)
    assert names < set(whole.layers)
    assert (whole.float_layers, set(made.float_layers)) == ((), names)
    assert made.operators == whole.operators - len(names)
    assert structure(expanded(kept.skeleton(network).data)) == structure(made.data)
    assert kept.skeleton(network).structure != format.skeleton(network).structure
    before = kept.answers(kept.parent.file(network), CALIBRATING)
    assert np.abs(kept.answers(made.data, CALIBRATING) - before).max() < 0.05 * np.abs(before).max()


def test_a_layer_that_was_cut_need_not_stay_float(format: Int8TFLite, network: fx.GraphModule) -> None:
    names = frozenset({"same.0.weight", "same.3.weight"})
    kept = Int8TFLite(parent=format.parent, images=format.images, settings=Int8Settings(float_layers=names))
    space = search_space(network, IMAGES, step=2)
    levels = tuple(100 if group.name.startswith("same") and 100 in group.kept else 0 for group in space.groups)
    assert any(levels)
    assert kept.quantized(prune(network, space, levels, in_order(space), IMAGES)).float_layers == ()


def test_a_layer_whose_weights_have_no_name_cannot_stay_float(format: Int8TFLite, tmp_path: Path) -> None:
    """As where a candidate is converted in full: the converter calls weights as it likes."""
    converter = tmp_path / "python"
    converter.write_text(f'#!/bin/sh\ncp "{CONVERTED}" "$3"\n')
    converter.chmod(0o755)
    parent = TFLite(converter, None, IMAGES)
    kept = Int8TFLite(
        parent=parent, images=format.images, settings=Int8Settings(float_layers=frozenset({"same.0.weight"}))
    )
    with pytest.raises(ExportError, match=r"same\.0\.weight cannot be told from other layers"):
        kept.file(tiny())


def test_a_file_of_nothing_but_what_has_no_int8_is_refused(format: Int8TFLite, network: fx.GraphModule) -> None:
    file = FloatFile(format.parent.file(network))
    graph = file.model.subgraphs[0]
    (first, *_) = graph.operators
    first.opcodeIndex, first.inputs = flatbuffer.opcode(file.model, "CEIL"), first.inputs[:1]
    first.builtinOptionsType, first.builtinOptions = 0, None
    graph.operators, graph.outputs, file.model.signatureDefs = [first], first.outputs, []
    with pytest.raises(ExportError, match="has no operator that can be quantized"):
        quantize(file, file.ranges(CALIBRATING[:2]))


def test_what_the_quantizer_refuses_is_told(format: Int8TFLite, network: fx.GraphModule) -> None:
    with pytest.raises(ExportError, match=r"the file cannot be quantized to INT8: .*QSV"):
        quantize(FloatFile(format.parent.file(network)), {})


# ---------------------------------------------------------------- with the real converter


class Beside(nn.Module):
    """Networks side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleList(networks.trained(name) for name in networks.NETWORKS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.each], 1)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_any_network_is_quantized_and_its_probe_has_the_files_structure() -> None:
    """All of them side by side: the converter takes as long to start for each."""
    images = networks.IMAGES
    network = trace(Beside(), images[:4], classes=5 * len(networks.NETWORKS))
    parent = open_format("tflite", network, images[:4], support=networks.LIMITS)
    format = open_int8(parent, images[:32].numpy())
    made, probe = format.quantized(network), format.skeleton(network)
    assert structure(expanded(probe.data)) == structure(made.data)
    assert len(made.layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
    before = format.answers(parent.file(network), images.numpy())
    assert np.abs(format.answers(made.data, images.numpy()) - before).max() < 0.06 * np.abs(before).max()
