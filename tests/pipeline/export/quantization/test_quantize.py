"""INT8 files: fused to the last operator, close to their parent; each way to be right and slow is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from device_agents import onnx_operators
from pipeline.devices.agent_plugins import runtime_named
from pipeline.errors import ExportError, ModelError
from pipeline.export.onnx.exporter import export
from pipeline.export.quantization.fused_operators import operators, require_fused
from pipeline.export.quantization.host_model import HostModel
from pipeline.export.quantization.placement import place, weighted_nodes
from pipeline.export.quantization.preparation import image_shape, prepare
from pipeline.export.quantization.qdq import S8S8, S8S8_SYMMETRIC, U8S8, Scheme, rounding, weight_scales
from pipeline.export.quantization.quantize import QuantizedFile, calibrate, float_ends, quantize
from pipeline.export.quantization.ranges import Range
from pipeline.export.quantization.value_graph import ValueGraph
from tests.pipeline.export.quantization.networks import (
    HERE,
    IMAGES,
    LIMITS,
    NETWORKS,
    float_file,
    largest_weight,
    trained,
)

EXAMPLE = IMAGES.numpy()


def quantized(name: str) -> tuple[onnx.ModelProto, QuantizedFile]:
    model = float_file(name)
    return model, quantize(model, calibrate(model, EXAMPLE[:32]), scheme=HERE)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_planned_operator_is_fused_and_the_answers_stay_close(name: str) -> None:
    model, made = quantized(name)
    assert made.operators >= made.planned > len(weighted_nodes(ValueGraph(model)))
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.06 * np.abs(before).max()
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.9
    onnx.checker.check_model(onnx.load_from_string(made.data), full_check=True)


def test_an_int8_file_is_smaller() -> None:
    model, made = quantized("residual")  # one of a few kilobytes is not: its scales' names weigh more than its weights
    assert len(made.data) < 0.6 * len(model.SerializeToString())


def test_no_float_operator_is_left_between_int8_ones() -> None:
    found = operators(quantized("residual")[1].data)
    assert {kind: n for kind, n in found.items() if kind in ("Conv", "FusedConv", "Add", "Relu", "Gemm")} == {}
    assert found["QuantizeLinear"] == found.get("DequantizeLinear", 1) == 1


def test_scales_are_numbers_and_a_bias_scale_is_the_product_of_the_other_two() -> None:
    graph = ValueGraph(onnx.load_from_string(quantized("residual")[1].data))
    made = {name: node for node in graph.nodes for name in node.output}
    pairs = [node for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert pairs
    assert {graph.array(name).shape for node in pairs for name in node.input[1:]} == {()}  # type: ignore[union-attr]
    layers = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
    assert layers
    for layer in layers:
        read, weight, bias = (graph.array(made[name].input[1]) for name in layer.input)
        assert read is not None
        np.testing.assert_array_equal(np.float32(read) * weight, bias)
        assert not np.any(graph.array(made[layer.input[2]].input[2]))


@pytest.mark.parametrize("scheme", [U8S8, S8S8, S8S8_SYMMETRIC], ids=lambda scheme: scheme.name)
def test_weights_take_up_the_range_that_the_scheme_gives_them_on_any_processor(scheme: Scheme) -> None:
    model = float_file("residual")
    ranges = calibrate(model, EXAMPLE[:32])
    eight, seven = (quantize(model, ranges, scheme=replace(scheme, weight_bits=bits)) for bits in (8, 7))
    assert (largest_weight(eight.data), largest_weight(seven.data)) == (127, 63)
    assert eight.operators == seven.operators
    assert quantize(model, ranges, scheme=scheme).data == eight.data != seven.data


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("scheme", [U8S8, S8S8, S8S8_SYMMETRIC], ids=lambda scheme: scheme.name)
def test_either_range_answers_as_the_float_file_where_nothing_saturates(scheme: Scheme, bits: int) -> None:
    """Pairs that are not fused are computed in float32, by any processor."""
    model = float_file("residual")
    made = quantize(model, calibrate(model, EXAMPLE[:32]), scheme=replace(scheme, weight_bits=bits))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.data, options, providers=["CPUExecutionProvider"])
    before = HostModel(model.SerializeToString()).scores(EXAMPLE)
    after = np.concatenate([session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in EXAMPLE])
    assert np.abs(after - before).max() < 0.08 * np.abs(before).max()


@pytest.mark.parametrize("scheme", [S8S8, S8S8_SYMMETRIC], ids=lambda scheme: scheme.name)
def test_other_forms_answer_as_the_float_file(scheme: Scheme) -> None:
    model = float_file("residual")
    scheme = replace(scheme, weight_bits=HERE.weight_bits)
    made = quantize(model, calibrate(model, EXAMPLE[:32]), scheme=scheme)
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.08 * np.abs(before).max()


def test_tensorrts_form_has_zero_points_of_zero_and_float_biases() -> None:
    model = float_file("inverted")
    graph = ValueGraph(onnx.load_from_string(quantize(model, calibrate(model, EXAMPLE), scheme=S8S8_SYMMETRIC).data))
    pairs = [node for node in graph.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {graph.array(node.input[2]).dtype for node in pairs} == {np.dtype(np.int8)}  # type: ignore[union-attr]
    assert not any(np.any(graph.array(node.input[2])) for node in pairs)
    biases = [node.input[2] for node in graph.nodes if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
    assert biases
    assert all(name in graph.constants for name in biases)
    clipping = [node for node in graph.nodes if node.op_type in ("Relu", "Clip")]
    assert clipping
    assert {graph.nodes[graph.makers[node.input[0]]].op_type for node in clipping} <= {"Conv", "Gemm", "Add"}


def test_float_ends_stay_float_and_the_rest_is_fused() -> None:
    model = float_file("residual")
    made = quantize(model, calibrate(model, EXAMPLE), keep_float=float_ends(model))
    assert made.operators >= made.planned
    assert len(made.float_layers) == 2
    found = operators(made.data)
    assert sum(found.get(kind, 0) for kind in ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul")) == 2


def test_pairs_stand_only_around_what_the_boards_runtime_computes_in_int8() -> None:
    """As with onnxruntime 1.10, the last for a Jetson Nano's Python 3.6."""
    older = runtime_named("onnxruntime", None).computed_in_int8("1.10.0")
    model = float_file("excited")
    ranges = calibrate(model, EXAMPLE[:32])
    made = quantize(model, ranges, scheme=HERE, operators=older)
    placed = {made.placement.graph.nodes[number].op_type for number in made.placement.nodes}
    assert placed == {"Conv", "Mul", "Concat", "AveragePool"}
    assert made.operators >= made.planned
    assert made.float_layers == ()  # none was asked to stay
    graph = ValueGraph(onnx.load_from_string(made.data))
    pooled = next(node for node in graph.nodes if node.op_type == "GlobalAveragePool")
    assert [graph.nodes[n].op_type for n in graph.readers[pooled.output[0]]] == ["QuantizeLinear"]  # its reader's pair
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.06 * np.abs(before).max()
    with pytest.raises(ExportError, match="no operator that the runtime computes in INT8"):
        quantize(model, ranges, operators=())


def spoilt(made: QuantizedFile, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(made.data)
    change(model)
    data: bytes = model.SerializeToString()
    return data


def scales_become_lists(model: onnx.ModelProto) -> None:
    read = {name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[1:]}
    for tensor in model.graph.initializer:
        if tensor.name in read:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[None], tensor.name))


def bias_zero_points_become_one(model: onnx.ModelProto) -> None:
    integers = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT32}
    zeros = {n.input[2] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integers}
    for tensor in model.graph.initializer:
        if tensor.name in zeros:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))


def activations_become_float_again(model: onnx.ModelProto) -> None:
    """Put an operator that no runtime has in INT8 between a layer and its rounding."""
    makers = {name: node for node in model.graph.node for name in node.output}
    rounded = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in makers)
    at = list(model.graph.node).index(rounded)
    between = helper.make_node("Softplus", [rounded.input[0]], ["between"])
    rounded.input[0] = "between"
    nodes: list[NodeProto] = list(model.graph.node)
    nodes.insert(at, between)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def bias_scales_are_doubled(model: onnx.ModelProto) -> None:
    """And the integers halved, so that the file answers as before: only that a scale is no product of the other two."""
    integers = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT32}
    pairs = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integers]
    scales, values = {n.input[1] for n in pairs}, {n.input[0] for n in pairs}
    for tensor in model.graph.initializer:
        if tensor.name in scales | values:
            found = numpy_helper.to_array(tensor)
            changed = found * np.float32(2) if tensor.name in scales else np.rint(found / 2).astype(np.int32)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


@pytest.mark.parametrize(
    "spoil", [
        scales_become_lists, bias_zero_points_become_one, bias_scales_are_doubled, activations_become_float_again,
    ],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
def test_a_file_that_is_right_and_slow_is_caught(spoil: Callable[[onnx.ModelProto], None]) -> None:
    _, made = quantized("residual")
    with pytest.raises(ExportError, match=r"computes \d+ of \d+ operators in INT8; what is left: .*\d"):
        require_fused(spoilt(made, spoil), made.planned)


def test_a_single_float_layer_is_caught_since_it_is_quantized_all_the_same() -> None:
    """It answers otherwise there than with another version, by scales that nobody has chosen; two neighbours stay."""
    model = float_file("residual")
    ranges = calibrate(model, EXAMPLE[:32])
    stem, first, second, *_ = weighted_nodes(ValueGraph(model))
    with pytest.raises(ExportError, match=r"computes 6 layers in INT8 where 5 were to be: a single layer"):
        quantize(model, ranges, keep_float=[first])
    assert len(quantize(model, ranges, keep_float=[first, second]).float_layers) == 2
    assert len(quantize(model, ranges, keep_float=[stem]).float_layers) == 1  # the first has nothing before it


def test_the_agent_counts_the_same_operators_without_the_onnx_package(tmp_path: object) -> None:
    _, made = quantized("excited")
    path = f"{tmp_path}/made.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = path, 3
    onnxruntime.InferenceSession(made.data, options, providers=["CPUExecutionProvider"])
    assert onnx_operators.operators(path) == dict(operators(made.data))


def test_a_channel_without_weights_keeps_its_bias() -> None:
    """What is left of a channel after pruning to zero is its bias, which must not be cut off."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()
    with torch.no_grad():
        network[0].weight[2] = 0
        network[0].bias[2] = 3.0
    model = onnx.load_from_string(export(network, IMAGES[:2], LIMITS))
    made = quantize(model, calibrate(model, EXAMPLE), scheme=HERE)
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.03 * np.abs(before).max()


def test_bias_and_scale_fit_int32() -> None:
    scales = weight_scales(np.zeros((2, 3), np.float32), 0, np.array([5.0, 0.0]), 0.01, 127)
    assert abs(5.0 / (0.01 * scales[0])) < 2**31


def test_layers_that_share_weights_each_get_their_own() -> None:
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(torch.relu(self.conv(x) * 4)).mean((2, 3)))

    network = Twice().eval()
    model = onnx.load_from_string(export(network, IMAGES[:2], LIMITS))
    made = quantize(model, calibrate(model, EXAMPLE), scheme=HERE)
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.06 * np.abs(before).max()


def test_a_value_that_only_moves_keeps_its_scale() -> None:
    placement = place(ValueGraph(float_file("excited")))
    moved = {name: source for name, source in placement.scale_of.items() if name != source}
    graph = placement.graph
    assert "MaxPool" in {graph.nodes[graph.makers[name]].op_type for name in moved}


def test_ranges_hold_zero_and_a_relu_begins_there() -> None:
    assert rounding(Range(2.0, 5.0)) == rounding(Range(0.0, 5.0))
    assert int(rounding(Range(0.0, 4.0)).zero_point) == 0
    found = rounding(Range(-1.0, 1.0))
    assert abs((0 - int(found.zero_point)) * found.scale + 1.0) < 0.01


def test_a_value_that_is_not_finite_is_an_error() -> None:
    model = float_file("residual")
    images = EXAMPLE.copy()
    images[0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="not finite"):
        calibrate(model, images)


# ---------------------------------------------------------------- a user's own file


def unfolded(name: str, opset: int) -> onnx.ModelProto:
    """Return a file as another exporter might write it: batch norm beside its layer."""
    import io

    buffer = io.BytesIO()
    torch.onnx.export(
        trained(name), (IMAGES[:1],), buffer, opset_version=opset, dynamo=False, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["pixels"], dynamic_axes={"pixels": {0: "n"}},
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_a_file_of_another_exporter_is_folded_and_quantized(opset: int) -> None:
    model = unfolded("residual", opset)
    assert image_shape(model) == (3, 16, 16)
    prepared = prepare(model, shown="net.onnx")
    assert "BatchNormalization" not in {node.op_type for node in prepared.graph.node}
    made = quantize(prepared, calibrate(prepared, EXAMPLE), scheme=HERE)
    assert made.operators >= made.planned
    before, after = HostModel(model.SerializeToString()).scores(EXAMPLE), HostModel(made.data).scores(EXAMPLE)
    assert np.abs(after - before).max() < 0.06 * np.abs(before).max()


def test_a_quantized_file_and_one_of_two_inputs_are_refused() -> None:
    _, made = quantized("residual")
    with pytest.raises(ModelError, match=r"net\.onnx is quantized already"):
        prepare(onnx.load_from_string(made.data), shown="net.onnx")
    model = float_file("residual")
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, [1]))
    with pytest.raises(ModelError, match=r"takes image \(float\), mask \(int64\); .* one float32 input"):
        prepare(model, shown="net.onnx")


def test_a_file_without_layers_to_quantize_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ExportError, match="no convolution or linear layer"):
        calibrate(model, np.zeros((1, 3, 4, 4), np.float32))
