from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.errors import ExportError, ModelError
from pipeline.export.onnx.exporter import INPUT, OUTPUT, answers, export, read, require_loadable
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.surgery.weight_sparsity import set_to_zero, weights
from pipeline.records import OnnxSupport
from tests.pipeline.pruning.networks import IMAGES, Chain, Concat, InvertedResidual, Residual, studied, traced

OLD, NEW = OnnxSupport(13, 7), OnnxSupport(21, 10)


@pytest.mark.parametrize("support", [OLD, NEW])
@pytest.mark.parametrize("kind", [Chain, Residual, InvertedResidual, Concat])
def test_files_are_within_the_limits_and_answer_as_the_network(kind: type[nn.Module], support: OnnxSupport) -> None:
    model = traced(kind)
    data = export(model, IMAGES, support)
    proto = read(data, support)
    assert proto.ir_version <= support.ir
    assert [(o.domain, o.version <= support.opset) for o in proto.opset_import] == [("", True)]
    with torch.inference_mode():
        np.testing.assert_allclose(answers(data, IMAGES.numpy()), model(IMAGES).numpy(), rtol=1e-4, atol=1e-4)


def test_pruned_networks_and_removed_blocks_can_be_written() -> None:
    model, space, ranking = studied(Residual)
    pruned = prune(model, space, tuple(max(g.levels) for g in space.groups), ranking, IMAGES)
    assert len(export(pruned, IMAGES, OLD)) < len(export(model, IMAGES, OLD)) / 2


def test_single_zeros_stay_where_they_are_though_batch_norm_is_folded() -> None:
    model = traced(Residual)
    set_to_zero(model, dict.fromkeys(weights(model), 0.5))
    tensors = {t.name: numpy_helper.to_array(t) for t in read(export(model, IMAGES, OLD), OLD).graph.initializer}
    written = [tensor for tensor in tensors.values() if tensor.ndim > 1]
    assert sum(int((tensor == 0).sum()) for tensor in written) == sum(
        int((w == 0).sum()) for w in weights(model).values()
    )


def test_input_and_output_are_named_and_batch_norm_is_folded() -> None:
    proto = read(export(traced(Chain), IMAGES, OLD), OLD)
    assert [i.name for i in proto.graph.input] == [INPUT]
    assert [o.name for o in proto.graph.output] == [OUTPUT]
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert "BatchNormalization" not in {n.op_type for n in proto.graph.node}


def test_the_same_network_gives_the_same_bytes() -> None:
    assert export(traced(Residual), IMAGES, OLD) == export(traced(Residual), IMAGES, OLD)


class Restless(nn.Module):
    """Answers differently each time, as a network left in training mode would."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.fc(x.mean((2, 3))) * (1 + 0.01 * self.calls)


def test_a_network_whose_answers_move_is_refused() -> None:
    with pytest.raises(ExportError, match=r"answers differ from the network's by .*, allowed is 1e-04"):
        export(Restless().eval(), IMAGES, OLD)


class Unwritable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x).mean((2, 3))


def test_an_operator_that_onnx_does_not_have_is_told_in_one_line() -> None:
    with pytest.raises(ExportError, match="cannot be written as ONNX opset 13") as caught:
        export(Unwritable(), IMAGES, OLD)
    assert "\n" not in str(caught.value)


def test_a_newer_file_than_the_device_loads_is_refused_before_it_is_sent() -> None:
    proto = onnx.load_from_string(export(traced(Chain), IMAGES, NEW))
    with pytest.raises(ExportError, match=r"opset 17, IR \d+: the device's runtime loads up to opset 13, IR 7"):
        require_loadable(proto, OLD)
    with pytest.raises(ModelError, match=r"mine\.onnx: opset 17"):
        read(proto.SerializeToString(), OLD, name="mine.onnx")


def test_what_is_no_onnx_file_is_told_in_one_line() -> None:
    for data in (b"", b"not a model", export(traced(Chain), IMAGES, OLD)[:-100]):
        with pytest.raises(ModelError, match=r"mine\.onnx is not a valid ONNX file: ") as caught:
            read(data, None, name="mine.onnx")
        assert "\n" not in str(caught.value)


def test_weights_in_a_file_outside_are_refused_with_the_way_to_fix_it(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    model = helper.make_model(
        helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [image], [scores], [weight])
    )
    path = tmp_path / "outside.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(
        ModelError, match=r"outside\.onnx keeps weights in a file outside; save it as one: onnx\.save_model"
    ):
        read(path.read_bytes(), None, name="outside.onnx")
