from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from device_agents.skeleton import expand, parse
from pipeline.export.onnx.exporter import answers, export
from pipeline.export.onnx.skeleton import skeleton
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport
from tests.pipeline.pruning.networks import IMAGES, Residual, in_order, traced

SUPPORT = OnnxSupport(13, 7)


def expanded(data: bytes) -> bytes:
    """What the device's own reader makes of a skeleton."""
    file = io.BytesIO()
    expand(parse(data), file)
    return file.getvalue()


def structure(model: bytes) -> list[object]:
    """Operators with their attributes and how they are wired, and the shapes of all weights; names apart."""
    graph = onnx.load_from_string(model).graph
    number: dict[str, int] = {}
    wires = [
        (n.op_type, [number.setdefault(v, len(number)) for v in (*n.input, *n.output)],
         sorted(a.SerializeToString(deterministic=True) for a in n.attribute))
        for n in graph.node
    ]  # fmt: skip
    weights = [(t.data_type, list(t.dims), number.get(t.name)) for t in graph.initializer]
    return [wires, weights]


def test_the_device_gets_a_file_of_the_same_structure_that_onnxruntime_runs() -> None:
    model = export(traced(Residual), IMAGES, SUPPORT)
    weightless = skeleton(model)
    whole = expanded(weightless)
    assert len(whole) == parse(weightless).size
    assert 0 <= len(model) - len(whole) < 0.3 * len(model)  # names are shorter, weights are as many
    assert structure(whole) == structure(model)
    scores = answers(whole, IMAGES.numpy())
    assert scores.shape == (4, 5)
    assert np.isfinite(scores).all()


def test_whole_numbers_and_what_is_no_layers_weight_are_kept_as_they_are() -> None:
    model = onnx.load_from_string(export(traced(Residual), IMAGES, SUPPORT))
    layers = {name for n in model.graph.node if n.op_type in ("Conv", "Gemm") for name in n.input[1:]}
    whole = onnx.load_from_string(expanded(skeleton(model.SerializeToString())))
    changed = 0
    for old, new in zip(model.graph.initializer, whole.graph.initializer, strict=True):
        if old.data_type != TensorProto.FLOAT or old.name not in layers:
            np.testing.assert_array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
        else:
            assert not np.array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
            changed += 1
    assert changed == len(layers)


def test_candidates_of_a_cifar_resnet_travel_as_one_percent_of_their_file() -> None:
    images = torch.randn(2, 3, 32, 32)
    base = trace(load_model("resnet20", classes=10, channels=3, weights=None), images)
    space = search_space(base, images, step=16)
    plans = [
        tuple(0 for _ in space.groups),
        tuple(50 if 50 in g.kept else 0 for g in space.groups),
        tuple(100 if i % 3 and 100 in g.kept else 0 for i, g in enumerate(space.groups)),
    ]
    for plan in plans:
        model = export(prune(base, space, plan, in_order(space), images), images, SUPPORT)
        assert len(skeleton(model)) <= 0.01 * len(model)


def test_the_same_structure_gives_the_same_bytes_whatever_the_weights() -> None:
    one = export(traced(Residual), IMAGES, SUPPORT)
    assert skeleton(one) == skeleton(one)
    other = onnx.load_from_string(one)
    layers = {name for n in other.graph.node if n.op_type in ("Conv", "Gemm") for name in n.input[1:]}
    short = [t for t in other.graph.initializer if t.name in layers and len(t.raw_data) < 64]
    assert short
    for tensor in other.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and (tensor.name in layers or len(tensor.raw_data) >= 64):
            tensor.raw_data = bytes(len(tensor.raw_data))
    assert skeleton(other.SerializeToString()) == skeleton(one)


def small_model(*, raw: bool, weight_name: str = "w", input_name: str = "x", output_name: str = "y") -> bytes:
    values = np.linspace(-1, 1, 4096, dtype=np.float32)
    weight = (
        numpy_helper.from_array(values.reshape(64, 64), weight_name)
        if raw
        else helper.make_tensor(weight_name, TensorProto.FLOAT, [64, 64], values.tolist())
    )
    image = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, 64])
    scores = helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [1, 64])
    node = helper.make_node("MatMul", [input_name, weight_name], [output_name])
    graph = helper.make_graph([node], "g", [image], [scores], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()


def run(model: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def test_weights_written_as_a_list_of_floats_are_left_out_too() -> None:
    weightless = skeleton(small_model(raw=False))
    assert len(weightless) < 200
    assert run(expanded(weightless), {"x": np.ones((1, 64), np.float32)}).shape == (1, 64)


def test_short_names_never_collide_with_those_of_inputs_and_outputs() -> None:
    whole = expanded(skeleton(small_model(raw=True, input_name="0", output_name="1")))
    assert run(whole, {"0": np.ones((1, 64), np.float32)}).shape == (1, 64)


@pytest.mark.parametrize("condition", [True, False])
def test_networks_with_branches_inside_keep_their_names_and_run(condition: bool) -> None:
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    branches = {
        name: helper.make_graph([helper.make_node(op, inputs, ["y"])], name, [], [out])
        for name, op, inputs in (("then_branch", "MatMul", ["x", "weight"]), ("else_branch", "Neg", ["x"]))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["condition"], ["y"], **branches)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64]),
         helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [out], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
    weightless = skeleton(model)
    whole = expanded(weightless)
    assert len(whole) == len(model)
    assert len(weightless) < 400
    feed = {"x": np.ones((1, 64), np.float32), "condition": np.array(condition)}
    assert np.isfinite(run(whole, feed)).all()


def test_batch_norms_variance_is_filled_with_positive_values() -> None:
    parts = {n: numpy_helper.from_array(np.ones(64, np.float32), n) for n in ("scale", "shift", "mean", "variance")}
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 2, 2])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 2, 2])
    node = helper.make_node("BatchNormalization", ["x", *parts], ["y"])
    graph = helper.make_graph([node], "g", [image], [scores], list(parts.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
    whole = onnx.load_from_string(expanded(skeleton(model)))
    scale, _, _, variance = (numpy_helper.to_array(t) for t in whole.graph.initializer)
    assert (variance > 0).all()
    assert (scale > 0).all()
