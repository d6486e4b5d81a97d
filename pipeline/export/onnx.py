"""ONNX files that a device's runtime can load, equal to the network they came from."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, fx, nn

from pipeline.errors import ExportError, ModelError, first_line
from pipeline.export.equality import require_equal
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.shortcuts import with_convolutions
from pipeline.records import OnnxLimits


def export(model: nn.Module, example: Tensor, limits: OnnxLimits) -> bytes:
    """Return ``model`` as one ONNX file for batches of one image, batch norm folded, within ``limits``.

    Padded shortcuts of a traced network are written as convolutions.

    Args:
        example: real, normalised images, (N, C, H, W); the file's answers to them are compared with the network's.

    Raises:
        ExportError: the exporter failed, the answers differ, or the file is not within the limits.
    """
    written = with_convolutions(model, tuple(example.shape[1:])) if isinstance(model, fx.GraphModule) else model
    proto = exported(written, (example[:1],), opset_of(limits), [INPUT], [OUTPUT])
    proto.ir_version = min(proto.ir_version, limits.ir)
    data: bytes = proto.SerializeToString(deterministic=True)
    require_loadable(proto, limits)
    require_equal(model, example, answers(data, example.numpy()), "ONNX")
    return data


def opset_of(limits: OnnxLimits) -> int:
    """Return the op set that files are written in: torch's exporter knows none above 17 fully."""
    return min(17, limits.opset)


def exported(
    model: nn.Module, inputs: tuple[Tensor, ...], opset: int, input_names: list[str], output_names: list[str] | None
) -> onnx.ModelProto:
    """Return what torch's exporter makes of ``model``, constants and batch norm folded; raises ExportError."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The TorchScript exporter is deprecated in favour of dynamo's, which is ten times slower and writes
            # opset 18 and IR 10, which the runtimes of older boards refuse.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                inputs,
                buffer,  # type: ignore[arg-type] # documented: a file path or a file-like object
                dynamo=False,
                opset_version=opset,
                input_names=input_names,
                output_names=output_names,
            )
    except Exception as error:  # torch.onnx raises whatever an operator's symbolic function raises
        raise ExportError(f"the network cannot be written as ONNX opset {opset}: {first_line(error)}") from error
    return _folded(buffer.getvalue())


def read(data: bytes, limits: OnnxLimits | None, *, name: str = "the model") -> onnx.ModelProto:
    """Return the parsed file; raise ModelError where it is damaged, not in one piece, or beyond the device's limits."""
    try:
        proto = onnx.load_from_string(data)
        _require_whole(proto, name)
        onnx.checker.check_model(proto)
    except ModelError:
        raise
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no base
        raise ModelError(f"{name} is not a valid ONNX file: {first_line(error)}") from error
    try:
        if limits is not None:
            require_loadable(proto, limits)
    except ExportError as error:
        raise ModelError(f"{name}: {error}") from error
    return proto


def _require_whole(proto: onnx.ModelProto, name: str) -> None:
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        raise ModelError(
            f"{name} keeps weights in a file outside; save it as one: "
            "onnx.save_model(onnx.load(FILE), OTHER_FILE, save_as_external_data=False)"
        )


def require_loadable(proto: onnx.ModelProto, limits: OnnxLimits) -> None:
    """Raise ExportError where the device's runtime is too old for the file."""
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > limits.opset or proto.ir_version > limits.ir:
        raise ExportError(
            f"opset {opset}, IR {proto.ir_version}: the device's runtime loads up to opset {limits.opset}, "
            f"IR {limits.ir}; "
            "export at an older opset, or bring a newer runtime to the device"
        )


def answers(data: bytes, images: np.ndarray) -> np.ndarray:
    """Return the host runtime's scores for ``images`` (N, C, H, W), one image at a time."""
    options = _options()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def _folded(data: bytes) -> onnx.ModelProto:
    """Return the file with constants folded and batch norm merged by onnxruntime's basic, portable rewrites.

    torch writes a chain of a dozen constant nodes for each padded shortcut, which TensorRT's parser stumbles over.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = _options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        proto = onnx.load(path)
    if foreign := {f"{n.domain}.{n.op_type}" for n in proto.graph.node if n.domain not in ("", "ai.onnx")}:
        raise ExportError(f"onnxruntime's rewriting put in operators that others do not know: {', '.join(foreign)}")
    standard = [o for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    del proto.opset_import[:]
    proto.opset_import.extend(standard)
    return proto


def _options() -> onnxruntime.SessionOptions:
    """Return settings for a quiet session that keeps to torch's threads: the board may be this very machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return options
