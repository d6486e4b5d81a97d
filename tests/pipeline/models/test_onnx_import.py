"""ONNX files become torch networks: equal answers, torch's own layers under their names, and clear refusals."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import is_model_file
from pipeline.errors import ModelError
from pipeline.events import Note
from pipeline.models import load_model
from pipeline.models.load import file_side
from pipeline.models.onnx_import import load_onnx
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.search_space import search_space
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace
from tests.pipeline import torchvision_networks as families
from tests.variations import variations

IMAGES = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(3))
DRAWN = np.random.RandomState(0)


def numbers(*shape: int) -> np.ndarray:
    return DRAWN.uniform(-0.5, 0.5, shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


Step = tuple[str, Sequence[np.ndarray | None], Mapping[str, Any]]
"""An operator, its constant inputs behind the value that it reads, its attributes."""


def step(kind: str, *constants: np.ndarray | None, **attributes: Any) -> Step:
    return kind, constants, attributes


def chained(
    steps: Sequence[Step], *, opset: int = 17, batch: int | str = 1, shape: Sequence[int] = (4, 8, 8)
) -> onnx.ModelProto:
    """Return a file whose operators follow each other, from ``x`` to ``y``."""
    nodes, held = [], []
    for place, (kind, constants, attributes) in enumerate(steps):
        names = [f"v{place}" if place else "x"]
        for i, constant in enumerate(constants):
            names.append("" if constant is None else f"c{place}_{i}")
            if constant is not None:
                held.append(numpy_helper.from_array(constant, names[-1]))
        nodes.append(helper.make_node(kind, names, [f"v{place + 1}"], name=f"{kind}_{place}", **attributes))
    nodes[-1].output[0] = "y"
    return written(nodes, held, opset=opset, batch=batch, shape=shape)


def written(
    nodes: Sequence[onnx.NodeProto],
    held: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    batch: int | str | None = 1,
    shape: Sequence[int | str] = (4, 8, 8),
    kind: int = TensorProto.FLOAT,
    domain: str | None = None,
) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("x", kind, [batch, *shape])
    answer = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(list(nodes), "net", [image], [answer], list(held))
    sets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    proto = helper.make_model(graph, opset_imports=sets, ir_version=8)
    for output, inferred in zip(proto.graph.output, onnx.shape_inference.infer_shapes(proto).graph.output, strict=True):
        output.type.tensor_type.shape.CopyFrom(inferred.type.tensor_type.shape)  # which has to be there, be it empty
    return proto


def saved(proto: onnx.ModelProto, tmp_path: Path, name: str = "net.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(proto.SerializeToString())
    return path


def exported(
    network: nn.Module,
    images: Tensor,
    path: Path,
    *,
    opset: int = 17,
    keep_norms: bool = False,
    open_batch: bool = False,
) -> Path:
    """Write a network as torch's exporter does, for one image; batch norm folded or kept."""
    mode = torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings(action="ignore"):  # the exporter is deprecated; sizes are asked for in Python
        torch.onnx.export(
            network.eval(), (images[:1],), str(path), dynamo=False, opset_version=opset, training=mode,
            do_constant_folding=not keep_norms, input_names=["image"], output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}} if open_batch else None,
        )  # fmt: skip
    return path


def runtime_answers(path: Path, images: Tensor) -> np.ndarray:
    """What onnxruntime gives, image by image."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in images])


def assert_equal(network: nn.Module, path: Path, images: Tensor) -> None:
    with torch.no_grad():
        found = network(images).numpy()
    wanted = runtime_answers(path, images).reshape(found.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())), rtol=0)


# ---------------------------------------------------------------- operator by operator


CONV = step("Conv", numbers(6, 4, 3, 3), numbers(6), pads=[1, 1, 1, 1])
EACH: dict[str, Sequence[Step]] = {
    "Conv, grouped and strided": [step("Conv", numbers(6, 2, 3, 3), group=2, strides=[2, 2])],
    "Conv, padded on one side more": [step("Conv", numbers(6, 4, 3, 3), numbers(6), pads=[0, 0, 1, 1], strides=[2, 2])],
    "Conv, SAME_UPPER": [step("Conv", numbers(6, 4, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2])],
    "Conv, SAME_LOWER": [step("Conv", numbers(6, 4, 4, 4), auto_pad="SAME_LOWER")],
    "Conv, dilated": [step("Conv", numbers(6, 4, 3, 3), dilations=[2, 1], auto_pad="VALID")],
    "ConvTranspose": [step("ConvTranspose", numbers(4, 3, 4, 4), numbers(3), pads=[1, 1, 1, 1], strides=[2, 2])],
    "ConvTranspose, cut at the end": [step("ConvTranspose", numbers(4, 3, 3, 3), pads=[1, 1, 0, 0], strides=[2, 2])],
    "BatchNormalization": [CONV, step("BatchNormalization", numbers(6), numbers(6), numbers(6), numbers(6) + 1)],
    "BatchNormalization of features": [
        step("Flatten"), step("BatchNormalization", numbers(256), numbers(256), numbers(256), numbers(256) + 1),
    ],
    "Gemm": [step("Flatten"), step("Gemm", numbers(256, 5), numbers(1, 5), alpha=0.5, beta=2.0)],
    "Gemm, transposed": [step("Flatten"), step("Gemm", numbers(5, 256), numbers(5), transB=1)],
    "MatMul": [step("Flatten"), step("MatMul", numbers(256, 5))],
    "MatMul and a bias": [step("Flatten"), step("MatMul", numbers(256, 5)), step("Add", numbers(5))],
    "MatMul along the last dimension": [step("MatMul", numbers(8, 3)), step("Add", numbers(3)), step("Relu")],
    "Relu": [step("Relu")],
    "LeakyRelu": [step("LeakyRelu", alpha=0.2)],
    "PRelu, one slope a channel": [step("PRelu", numbers(4, 1, 1))],
    "PRelu, one slope": [step("PRelu", numbers(1))],
    "Clip to six": [step("Clip", np.float32(0), np.float32(6))],
    "Clip from below": [step("Clip", np.float32(0), None)],
    "Clip": [step("Clip", np.float32(-0.1), np.float32(0.3))],
    "Sigmoid": [step("Sigmoid")],
    "HardSigmoid": [step("HardSigmoid")],
    "HardSigmoid, as torch's": [step("HardSigmoid", alpha=1 / 6)],
    "HardSwish": [step("HardSwish")],
    "Elu": [step("Elu", alpha=0.7)],
    "Selu": [step("Selu")],
    "Celu": [step("Celu", alpha=0.7)],
    "Tanh": [step("Tanh")],
    "Erf": [step("Erf")],
    "Softplus": [step("Softplus")],
    "Abs, Sqrt, Reciprocal": [step("Abs"), step("Add", numbers(1) + 1), step("Sqrt"), step("Reciprocal"), step("Neg")],
    "Exp, Log": [step("Exp"), step("Log"), step("Floor")],
    "Add a number": [step("Add", np.float32(0.5))],
    "Sub, Mul, Div by channels": [
        step("Sub", numbers(1, 4, 1, 1)), step("Mul", numbers(4, 1, 1)), step("Div", numbers(1, 4, 1, 1) + 1),
    ],
    "Pow": [step("Pow", np.float32(2)), step("Pow", np.float32(0.5))],
    "Max, Min": [step("Max", numbers(4, 1, 1)), step("Min", numbers(1))],
    "Sum": [step("Sum", numbers(4, 8, 8), numbers(1))],
    "MaxPool": [step("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
    "MaxPool, ceiling": [step("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
    "MaxPool, padded on one side": [step("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])],
    "AveragePool": [step("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
    "AveragePool, padding counts": [
        step("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 1], strides=[2, 2], count_include_pad=1)
    ],
    "AveragePool, SAME_UPPER": [step("AveragePool", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2])],
    "GlobalAveragePool": [step("GlobalAveragePool"), step("Flatten")],
    "GlobalMaxPool": [step("GlobalMaxPool"), step("Flatten")],
    "ReduceMean": [step("ReduceMean", axes=[2, 3], keepdims=0)],
    "ReduceMax, ReduceMin": [step("ReduceMax", axes=[-1]), step("ReduceMin", axes=[2])],
    "ReduceSum": [step("ReduceSum", whole(2, 3), keepdims=0)],
    "Concat with a constant": [step("Concat", numbers(1, 2, 8, 8), axis=1)],
    "Slice": [step("Slice", whole(0, 1), whole(2**63 - 1, -1), whole(2, 3), whole(2, 1))],
    "Slice of channels": [step("Slice", whole(1), whole(3), whole(1))],
    "Flatten, Reshape": [step("Flatten"), step("Reshape", whole(1, 4, 4, 16)), step("Reshape", whole(1, -1))],
    "Reshape that keeps": [step("Reshape", whole(0, 2, -1))],
    "Reshape over images": [
        step("Reshape", whole(-1, 64)), step("MatMul", numbers(64, 3)), step("Reshape", whole(1, 12)),
    ],
    "Transpose": [step("Transpose", perm=[0, 2, 3, 1])],
    "channel shuffle": [
        step("Reshape", whole(1, 2, 2, 8, 8)), step("Transpose", perm=[0, 2, 1, 3, 4]),
        step("Reshape", whole(1, 4, 8, 8)),
    ],
    "Squeeze, Unsqueeze": [
        step("GlobalAveragePool"), step("Squeeze", whole(2, 3)), step("Unsqueeze", whole(2)), step("Squeeze"),
    ],
    "Pad": [step("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1))],
    "Pad by a number": [step("Pad", whole(0, 0, 1, 0, 0, 0, 1, 0), np.float32(0.5))],
    "Pad channels": [step("Pad", whole(0, 1, 0, 0, 0, 2, 0, 0))],
    "Pad by a reflection": [step("Pad", whole(0, 0, 1, 1, 0, 0, 2, 1), mode="reflect")],
    "Pad by the edge": [step("Pad", whole(0, 0, 0, 1, 0, 0, 0, 1), mode="edge")],
    "Identity, Dropout, Cast": [step("Identity"), step("Dropout"), step("Cast", to=1)],
    "Gather one": [step("Gather", whole(2).reshape(()), axis=1)],
    "Gather a range": [step("Gather", whole(1, 2), axis=1)],
    "Gather in another order": [step("Gather", whole(3, 0, -2), axis=1)],
    "Gather before the images": [step("Transpose", perm=[1, 0, 2, 3]), step("Gather", whole(2).reshape(()), axis=0)],
    "Expand": [step("GlobalAveragePool"), step("Expand", whole(1, 4, 2, 2))],
    "Softmax inside": [step("Softmax", axis=1), step("Mul", numbers(1))],
    "LRN": [step("LRN", size=3, alpha=0.1, beta=0.5, bias=2.0)],
    "InstanceNormalization": [step("InstanceNormalization", numbers(4), numbers(4))],
    "LayerNormalization": [step("LayerNormalization", numbers(8), numbers(8), axis=-1)],
    "Resize, nearest": [
        step("Resize", None, np.array([1, 1, 2, 2], np.float32), mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
    ],
    "Resize, bilinear": [step("Resize", None, None, whole(1, 4, 12, 5), mode="linear")],
    "Resize, corners": [
        step("Resize", None, None, whole(1, 4, 12, 5), mode="linear", coordinate_transformation_mode="align_corners")
    ],
    "DepthToSpace": [step("DepthToSpace", blocksize=2, mode="CRD")],
}  # fmt: skip


OF_ONE = ("Concat", "Expand", "Reshape", "Resize")
"""Operators whose constants here are of one image."""


CASES = [
    (name, batch)
    for name, steps in EACH.items()
    for batch in (1, 2, "n")
    if batch != 2 or not any(kind in OF_ONE for kind, _, _ in steps)
]


@pytest.mark.parametrize(("name", "batch"), variations(CASES, {case for case in CASES if case[1] == "n"}))
def test_each_operator_gives_what_the_runtime_gives_for_any_number_of_images(
    name: str, batch: int | str, tmp_path: Path
) -> None:
    path = saved(chained(EACH[name], batch=batch), tmp_path)
    network = load_onnx(path)
    one_at_a_time = saved(chained(EACH[name]), tmp_path, "one.onnx")
    assert_equal(network, one_at_a_time, IMAGES)


@pytest.mark.parametrize(
    ("opset", "steps"),
    [
        (9, [step("Upsample", np.array([1, 1, 2, 2], np.float32), mode="nearest")]),
        (10, [step("Resize", np.array([1, 1, 2, 2], np.float32), mode="nearest")]),
        (9, [step("Clip", min=0.0, max=6.0), step("Slice", axes=[1], starts=[1], ends=[3])]),
        (9, [step("Squeeze", axes=[2, 3]), step("Unsqueeze", axes=[1])]),
        (9, [step("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.5), step("Dropout", ratio=0.3)]),
        (11, [step("ReduceSum", axes=[2, 3], keepdims=0), step("Softmax", axis=1), step("Mul", numbers(1))]),
        (18, [step("ReduceMean", whole(2, 3), keepdims=0)]),
        (20, [step("Gelu", approximate="tanh"), step("Gelu")]),
        (21, [step("GroupNormalization", numbers(4), numbers(4), num_groups=2)]),
    ],
)
def test_operators_of_other_sets_are_read_as_these_mean_them(opset: int, steps: Sequence[Step], tmp_path: Path) -> None:
    shape = (4, 1, 1) if steps[0][0] == "Squeeze" else (4, 8, 8)
    path = saved(chained(steps, opset=opset, shape=shape), tmp_path)
    assert_equal(load_onnx(path), path, IMAGES[:, :, : shape[1], : shape[2]])


@pytest.mark.parametrize("sizes", [[1, 3], None])
def test_split_gives_each_part(sizes: list[int] | None, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x", "sizes"] if sizes else ["x"], ["a", "b"], axis=1),
        helper.make_node("Relu", ["a"], ["c"]),
        helper.make_node("Concat", ["b", "c", "x"], ["y"], axis=1),
    ]
    held = [numpy_helper.from_array(whole(*sizes), "sizes")] if sizes else []
    path = saved(written(nodes, held), tmp_path)
    assert_equal(load_onnx(path), path, IMAGES)


# ---------------------------------------------------------------- what exporters write


class Patterns(nn.Module):
    """What torch's exporter takes apart: SiLU, GELU, norms, squeeze and excitation, a shuffle, a padded shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.left = nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU(), nn.GroupNorm(2, 8), nn.GELU())
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(16)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        x = self.left(x)
        x = x * self.excite(functional.hardswish(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))).sigmoid()
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([a, functional.hardsigmoid(b)], 1)
        x = self.down(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("opset", "keep_norms", "open_batch"), variations([
    (11, False, False), (11, True, True), (13, False, True), (13, True, False), (17, False, False), (17, True, True),
], [(13, False, True), (13, True, False)]))  # fmt: skip
def test_what_torchs_exporter_takes_apart_is_one_network_again(
    opset: int, keep_norms: bool, open_batch: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Patterns()
    path = exported(network, IMAGES, tmp_path / "net.onnx", opset=opset, keep_norms=keep_norms, open_batch=open_batch)
    found = load_onnx(path, example=IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES), network(IMAGES), atol=1e-4, rtol=1e-4)
    names = {name for name, module in found.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert names == {"stem", "left.0", "squeeze", "excite", "down", "fc"}
    norms = [name for name, module in found.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == (["bn"] if keep_norms else [])
    own, there = (search_space(trace(one, IMAGES), IMAGES, step=2) for one in (network, found))
    assert {group.name for group in there.groups} == {group.name for group in own.groups}
    assert there.macs == own.macs


def test_a_network_of_signals_is_read(tmp_path: Path) -> None:
    signals = torch.randn(4, 2, 32)
    network = nn.Sequential(
        nn.Conv1d(2, 8, 5, stride=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    path = exported(network, signals, tmp_path / "net.onnx", keep_norms=True)
    found = load_onnx(path, example=signals)
    assert isinstance(found.get_submodule("0"), nn.Conv1d)
    assert_equal(found, path, signals)
    assert file_side(str(path)) is None


NETWORKS = (
    families.resnet, families.mobilenet_v2, families.mobilenet_v3, families.efficientnet, families.densenet,
    families.shufflenet, families.squeezenet, families.googlenet, families.vgg, families.regnet_with_squeeze,
)  # fmt: skip
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))


@functools.cache
def network_and_space(name: Callable[[], nn.Module]) -> tuple[nn.Module, SearchSpace]:
    """A network of torchvision's with random weights and lively statistics, and what may be cut in it."""
    network = families.build(name)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return network, search_space(trace(network, PIXELS), PIXELS, step=8)


OPSETS = (11, 13, 17)
QUICK = {(families.mobilenet_v3, 11, True), (families.shufflenet, 17, False)}


def in_turns() -> Iterator[tuple[Callable[[], nn.Module], int, bool]]:
    """Yield each network with its norms folded and kept, by one set of operators each; ``Patterns`` is tried by all.

    Folded alone are a network without norms, and one whose norms lie as in others, but many.
    """
    for number, name in enumerate(NETWORKS):
        yield name, OPSETS[number % 3], False
        if name not in (families.squeezenet, families.googlenet):
            yield name, OPSETS[(number + 1) % 3], True


@pytest.mark.parametrize(("name", "opset", "keep_norms"), variations(in_turns(), QUICK))
def test_torchvisions_networks_keep_answers_names_and_groups(
    name: Callable[[], nn.Module], opset: int, keep_norms: bool, tmp_path: Path
) -> None:
    (network, own), images = network_and_space(name), PIXELS
    path = exported(network, images, tmp_path / "net.onnx", opset=opset, keep_norms=keep_norms, open_batch=opset == 13)
    found = load_onnx(path, example=images)
    with torch.no_grad():
        wanted = network(images)
        torch.testing.assert_close(found(images), wanted, atol=1e-4 * max(1.0, wanted.abs().max().item()), rtol=0)
    there = search_space(trace(found, images), images, step=8)
    assert there.macs == own.macs
    assert {group.name: group.channels for group in there.groups} == {g.name: g.channels for g in own.groups}
    norms, kept = (sum(isinstance(m, nn.BatchNorm2d) for m in one.modules()) for one in (network, found))
    assert kept == norms if keep_norms or not norms else kept < norms, "what precedes its convolution is not folded"


def test_layers_of_a_file_without_torchs_names_are_called_by_their_nodes(tmp_path: Path) -> None:
    steps = [CONV, step("Relu"), step("Conv", numbers(2, 6, 1, 1)), step("GlobalAveragePool"), step("Flatten")]
    proto = chained(steps)
    proto.graph.node[2].name = "block 1/branch:0/Conv2D"
    found = load_onnx(saved(proto, tmp_path))
    names = [name for name, module in found.named_modules() if isinstance(module, nn.Conv2d)]
    assert names == ["conv_0", "block_1.branch_0.Conv2D"]
    assert "conv_0" in dependency_graph(trace(found, IMAGES), IMAGES).groups


def test_weights_that_two_operators_read_are_one_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["b"], ["y"]),
    ]
    path = saved(written(nodes, [numpy_helper.from_array(numbers(4, 4, 3, 3), "w")]), tmp_path)
    network = load_onnx(path)
    assert len(list(network.parameters())) == 1
    assert_equal(network, path, IMAGES)


def test_dropout_drops_in_training_alone(tmp_path: Path) -> None:
    network = load_onnx(saved(chained([step("Dropout", np.float32(0.5))]), tmp_path))
    assert torch.equal(network(IMAGES), IMAGES)
    assert not torch.equal(network.train()(IMAGES), IMAGES)


@pytest.mark.parametrize(("kind", "axis"), [("Softmax", 1), ("LogSoftmax", -1)])
def test_a_last_softmax_is_taken_off_and_told(kind: str, axis: int, tmp_path: Path) -> None:
    head = [step("Flatten"), step("Gemm", numbers(256, 5))]
    path = saved(chained([*head, step(kind, axis=axis)]), tmp_path)
    heard: list[Note] = []
    network = load_onnx(path, listen=lambda event: heard.append(event) if isinstance(event, Note) else None)
    assert [f"the last {kind} is taken off: training and pruning want scores" in str(note) for note in heard] == [True]
    with torch.no_grad():
        scores = network(IMAGES)
    probable = scores.softmax(1) if kind == "Softmax" else scores.log_softmax(1)
    np.testing.assert_allclose(probable, runtime_answers(path, IMAGES), atol=1e-5)


def test_scores_as_maps_of_one_pixel_are_scores(tmp_path: Path) -> None:
    steps = [step("Conv", numbers(5, 4, 1, 1)), step("GlobalAveragePool"), step("Softmax", axis=1)]
    assert load_onnx(saved(chained(steps), tmp_path))(IMAGES).shape == (5, 5)


def test_constants_of_the_file_that_were_parameters_are_trained(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "block.scale"], ["a"]),
        helper.make_node("Mul", ["a", "block.scale"], ["b"]),
        helper.make_node("Add", ["b", "onnx::Add_7"], ["y"]),
    ]
    held = [numpy_helper.from_array(numbers(4, 1, 1), name) for name in ("block.scale", "onnx::Add_7")]
    network = load_onnx(saved(written(nodes, held), tmp_path))
    assert [name for name, _ in network.named_parameters()] == ["block.scale"]
    assert len(list(network.buffers())) == 1


# ---------------------------------------------------------------- what cannot be read


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=f"my_{kind}", **attributes)


def half() -> onnx.ModelProto:
    held = numpy_helper.from_array(numbers(6, 4, 3, 3).astype(np.float16), "w")
    return written([node("Conv", "x", "w")], [held], kind=TensorProto.FLOAT16)


def outside() -> onnx.ModelProto:
    held = numpy_helper.from_array(numbers(6, 4, 3, 3), "w")
    onnx.external_data_helper.set_external_data(held, "weights.bin")
    held.ClearField("raw_data")
    return written([node("Conv", "x", "w")], [held])


def branching() -> onnx.ModelProto:
    branch = helper.make_graph(
        [node("Identity", "x", output="z")], "branch", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    )
    condition = numpy_helper.from_array(np.array(True), "yes")
    return written([node("If", "yes", then_branch=branch, else_branch=branch)], [condition])


def quantized() -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    return written(
        [node("QuantizeLinear", "x", "scale", "zero", output="q"), node("DequantizeLinear", "q", "scale", "zero")], held
    )


def two_inputs() -> onnx.ModelProto:
    proto = written([node("Add", "x", "mask")])
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 4, 8, 8]))
    return proto


def of_another_domain() -> onnx.ModelProto:
    return written([node("FusedConv", "x", domain="com.microsoft")], domain="com.microsoft")


BAD: dict[str, tuple[onnx.ModelProto, str]] = {
    "float16": (half(), "the weight w is float16, expected is float32; export model.float"),
    "float64": (written([node("Relu", "x")], kind=TensorProto.DOUBLE), "input x is double, expected is float32"),
    "external data": (outside(), "keeps weights in a file outside; save it as one"),
    "control flow": (branching(), r"If \(my_If\) is control flow"),
    "quantized": (quantized(), r"QuantizeLinear \(my_QuantizeLinear\) is of a quantized network.* give the float file"),
    "two inputs": (two_inputs(), r"has 2 inputs \(x, mask\), expected is one"),
    "open size": (
        written([node("Relu", "x")], shape=(4, "h", 8)),
        r"dimension 2 \(h\) of the input x is open; export it again with only the batch open .*make_dynamic_shape",
    ),
    "other domain": (of_another_domain(), r"FusedConv \(my_FusedConv\) is no operator of ONNX but of com.microsoft"),
    "unknown operator": (written([node("NonZero", "x")]), r"NonZero \(my_NonZero\) is not converted: it is not among"),
    "old": (chained([step("Relu")], opset=6), "is of operator set 6; export it again with one of 7 or above"),
    "flat": (written([node("Relu", "x")], shape=(4,)), "the input x has 2 dimensions; expected are images"),
    "a huge image": (written([node("Relu", "x")], shape=(3, 2**20, 2**20)), "than 256 images of 16,777,216 values"),
    "computed weights": (
        written([node("Conv", "x", "x")], shape=(1, 8, 8)), r"Conv \(my_Conv\) is not converted: its input 1 \(x\) is",
    ),
    "shapes that do not fit": (
        chained([step("Conv", numbers(6, 3, 3, 3))]), r"Conv \(Conv_0\) cannot be computed: .*export it again",
    ),
    "some images": (chained([step("Gather", whole(0).reshape(()), axis=0)]), "it picks some of the images"),
    "images behind each other": (chained([step("Concat", numbers(1, 4, 8, 8), axis=0)]), "it lays images behind each"),
    "training": (
        chained([step("Dropout", np.float32(0.5), np.array(True))]), "it drops values, as in training: call model.",
    ),
    "a huge constant": (
        written([node("ConstantOfShape", "size", output="c"), node("Add", "x", "c")],
                [numpy_helper.from_array(whole(2**40), "size")]),
        "it makes a constant of more than",
    ),
    "no image in it": (
        written([node("Identity", "w")], [numpy_helper.from_array(numbers(1, 3), "w")]), "output y does not depend on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_with_operator_node_and_what_to_do(name: str, tmp_path: Path) -> None:
    proto, said = BAD[name]
    with pytest.raises(ModelError, match=said) as refused:
        load_onnx(saved(proto, tmp_path))
    assert "net.onnx" in str(refused.value)


def test_a_file_that_mixes_its_images_is_refused(tmp_path: Path) -> None:
    steps = [step("Transpose", perm=[1, 0, 2, 3]), step("Softmax", axis=1), step("Transpose", perm=[1, 0, 2, 3])]
    with pytest.raises(ModelError, match=r"answers several images otherwise than each by itself.* an open batch"):
        load_onnx(saved(chained(steps), tmp_path))
    with pytest.raises(ModelError, match=r"differ by .*; give the PyTorch network"):
        load_onnx(saved(chained(steps, batch="n"), tmp_path))


def test_a_network_that_does_not_run_on_several_images_is_refused_without_a_page_of_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [
        step("Transpose", perm=[1, 0, 2, 3]), step("Reshape", whole(4, 64)), step("Add", numbers(4, 64)),
    ]  # fmt: skip
    with pytest.raises(ModelError, match="answers several images otherwise than each by itself"):
        load_onnx(saved(chained(steps), tmp_path))
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_gives_other_values_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.models.onnx_import import operators, pointwise

    monkeypatch.setitem(operators.OPERATORS, "Tanh", pointwise.unary(torch.sin))
    path = saved(chained([CONV, step("Tanh"), step("Relu")]), tmp_path)
    with pytest.raises(ModelError, match=r"Tanh \(Tanh_1\) gives other values in torch than in onnxruntime"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"", b"not a protobuf", b"\x08\x08"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx"):
        load_onnx(tmp_path / "net.onnx")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file .*nowhere\.onnx; give the path of an ONNX file"):
        load_model(str(tmp_path / "nowhere.onnx"), classes=2, channels=3, weights=None)


# ---------------------------------------------------------------- as a model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    steps = [CONV, step("Relu"), step("GlobalAveragePool"), step("Flatten"), step("Gemm", numbers(6, 5))]
    return saved(chained(steps), tmp_path)


def test_weights_beside_a_file_that_holds_its_own_are_refused(file: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.onnx holds its weights, but .*leave --weights out"):
        load_model(str(file), classes=5, channels=4, weights=Path("net.pt"))


def test_images_of_another_size_are_told_with_the_size_that_fits(file: Path) -> None:
    with pytest.raises(ModelError, match=r"takes images of 4 x 8 x 8, the data's are 4 x 9 x 9; .*image_size: 8"):
        load_model(str(file), classes=5, channels=4, weights=None, example=torch.randn(2, 4, 9, 9))
    assert file_side(str(file)) == 8
    assert file_side("resnet18") is None


def test_a_file_with_channels_last_is_told_how_to_be_exported(tmp_path: Path) -> None:
    path = saved(chained([step("Relu")], shape=(8, 8, 4)), tmp_path)
    with pytest.raises(ModelError, match=r"8 x 8 x 4, channels last; the data's are 4 x 8 x 8.*--inputs-as-nchw x"):
        load_onnx(path, example=IMAGES)


def test_the_last_layer_can_be_a_new_one(file: Path) -> None:
    model = load_model(str(file), classes=3, channels=4, weights=None, head="new", example=IMAGES)
    assert model(IMAGES).shape == (5, 3)


def test_a_model_file_is_known_by_its_suffix() -> None:
    assert is_model_file("a/NET.ONNX")
    assert not is_model_file("net.py:onnx")
