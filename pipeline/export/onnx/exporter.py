"""ONNX files that a device's runtime can load, equal to the network they came from."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from torch import fx, nn

from pipeline import structures
from pipeline.errors import ExportError, ModelError, first_line
from pipeline.export.onnx.fault_localization import differing, unwritable
from pipeline.export.onnx.padded_shortcuts import with_convolutions
from pipeline.export.onnx.torch_exporter import exported, opset_of, quiet
from pipeline.export.signature import INPUT, OUTPUT, output_nodes, packed, rows, signature_of
from pipeline.export.verify_outputs import require_equal
from pipeline.records import OnnxSupport
from pipeline.structures import Inputs


def export(model: nn.Module, example: Inputs, support: OnnxSupport) -> bytes:
    """Return ``model`` as one ONNX file for batches of one image, batch norm folded, within ``support``.

    Padded shortcuts of a traced network are written as convolutions.

    Args:
        example: a real, normalised batch; the file's answers to it are compared with the network's.

    Raises:
        ExportError: the exporter failed, the answers differ, or the device's runtime would not load the file.
    """
    written = with_convolutions(model, example) if isinstance(model, fx.GraphModule) else model
    proto = whole(written, structures.part(example, 0, 1), opset_of(support))
    proto.ir_version = min(proto.ir_version, support.ir)
    data: bytes = proto.SerializeToString(deterministic=True)
    require_loadable(proto, support)
    try:
        require_equal(model, example, answers(data, packed(example)), "ONNX")
    except ExportError as error:
        found = differing(model, example, opset_of(support)) if isinstance(model, fx.GraphModule) else None
        raise ExportError(f"{error}: {found}" if found else str(error)) from error
    return data


def whole(network: nn.Module, image: Inputs, opset: int) -> onnx.ModelProto:
    """Return what torch's exporter makes of a network for one image; raises ExportError, which names the layer."""
    written, inputs, outputs = network, [INPUT], [OUTPUT]
    if isinstance(network, fx.GraphModule) and not (signature := signature_of(network)).is_plain:
        written, inputs, outputs = _flat(network), list(signature.inputs), list(signature.outputs)
    try:
        return exported(written, structures.arguments(image), opset, inputs, outputs)
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


def answers(data: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the host runtime's answers to ``images`` (N, C, H, W), one image at a time.

    Of a file with several inputs or outputs both are rows, see :mod:`pipeline.export.signature`.
    """
    session = onnxruntime.InferenceSession(data, quiet(), providers=["CPUExecutionProvider"])
    found = [session.run(None, _fed(session, image[None])) for image in images]
    outputs = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return outputs[0] if len(outputs) == 1 else rows(outputs)


def _fed(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return one example as the file's inputs take it."""
    inputs = session.get_inputs()
    if len(inputs) == 1:
        return {inputs[0].name: image}
    ends = np.cumsum([np.prod(one.shape, dtype=int) for one in inputs])
    parts = np.split(image, ends[:-1], axis=1)
    return {one.name: part.reshape(one.shape) for one, part in zip(inputs, parts, strict=True)}


def _flat(network: fx.GraphModule) -> fx.GraphModule:
    """Return a network that answers with its tensors in a row, as a file does; weights are shared."""
    flat = fx.GraphModule(network, copy.deepcopy(network.graph))
    flat.graph.output_node().args = (tuple(output_nodes(flat)),)
    flat.recompile()
    return flat
