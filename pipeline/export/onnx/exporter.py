"""ONNX files that a device's runtime can load, equal to the network they came from."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from torch import Tensor, fx, nn

from pipeline.errors import ExportError, ModelError, first_line
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.onnx.fault_localization import differing, unwritable
from pipeline.export.onnx.padded_shortcuts import with_convolutions
from pipeline.export.onnx.torch_exporter import exported, opset_of, quiet
from pipeline.export.verify_outputs import require_equal
from pipeline.records import OnnxSupport


def export(model: nn.Module, example: Tensor, support: OnnxSupport) -> bytes:
    """Return ``model`` as one ONNX file for batches of one image, batch norm folded, within ``support``.

    Padded shortcuts of a traced network are written as convolutions.

    Args:
        example: real, normalised images, (N, C, H, W); the file's answers to them are compared with the network's.

    Raises:
        ExportError: the exporter failed, the answers differ, or the device's runtime would not load the file.
    """
    written = with_convolutions(model, tuple(example.shape[1:])) if isinstance(model, fx.GraphModule) else model
    proto = whole(written, example[:1], opset_of(support))
    proto.ir_version = min(proto.ir_version, support.ir)
    data: bytes = proto.SerializeToString(deterministic=True)
    require_loadable(proto, support)
    try:
        require_equal(model, example, answers(data, example.numpy()), "ONNX")
    except ExportError as error:
        found = differing(model, example, opset_of(support)) if isinstance(model, fx.GraphModule) else None
        raise ExportError(f"{error}: {found}" if found else str(error)) from error
    return data


def whole(network: nn.Module, image: Tensor, opset: int) -> onnx.ModelProto:
    """Return what torch's exporter makes of a network for one image; raises ExportError, which names the layer."""
    try:
        return exported(network, (image,), opset, [INPUT], [OUTPUT])
    except ExportError as error:
        found = unwritable(network, image, opset, error) if isinstance(network, fx.GraphModule) else None
        if found is None:
            raise ExportError(f"{error}; express it by operators that ONNX has") from error
        raise ExportError(f"the network cannot be written as ONNX opset {opset}: {found}") from error


def read(data: bytes, support: OnnxSupport | None, *, name: str = "the model") -> onnx.ModelProto:
    """Return the parsed file; raise ModelError where it is damaged, not in one piece, or too new for the device."""
    try:
        proto = onnx.load_from_string(data)
        _require_whole(proto, name)
        onnx.checker.check_model(proto)
    except ModelError:
        raise
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no base
        raise ModelError(f"{name} is not a valid ONNX file: {first_line(error)}") from error
    try:
        if support is not None:
            require_loadable(proto, support)
    except ExportError as error:
        raise ModelError(f"{name}: {error}") from error
    return proto


def _require_whole(proto: onnx.ModelProto, name: str) -> None:
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        raise ModelError(
            f"{name} keeps weights in a file outside; save it as one: "
            "onnx.save_model(onnx.load(FILE), OTHER_FILE, save_as_external_data=False)"
        )


def require_loadable(proto: onnx.ModelProto, support: OnnxSupport) -> None:
    """Raise ExportError where the device's runtime is too old for the file."""
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > support.opset or proto.ir_version > support.ir:
        raise ExportError(
            f"opset {opset}, IR {proto.ir_version}: the device's runtime loads up to opset {support.opset}, "
            f"IR {support.ir}; "
            "export at an older opset, or bring a newer runtime to the device"
        )


def answers(data: bytes, images: np.ndarray) -> np.ndarray:
    """Return the host runtime's scores for ``images`` (N, C, H, W), one image at a time."""
    session = onnxruntime.InferenceSession(data, quiet(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
