"""A converted network is as good as its answers: they are compared with onnxruntime's before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, fx

from pipeline.errors import ModelError, first_line
from pipeline.export.onnx.torch_exporter import quiet
from pipeline.export.verify_outputs import TOLERANCE
from pipeline.models.onnx_import.graph_builder import Constant, Made
from pipeline.models.onnx_import.model_file import AGAIN, ModelFile, describe_node


def require_equal(
    network: fx.GraphModule, file: ModelFile, images: Tensor, values: Mapping[str, Constant | Made]
) -> None:
    """Raise ModelError unless a network answers images as its file does in onnxruntime.

    Args:
        network: the file's.
        file: without a last Softmax.
        images: as many as one likes.
        values: what each name in the file stood for while the network was written, to find where it differs.
    """
    expected = _answers(file, images)
    try:
        with torch.inference_mode():
            answer = _run_quietly(network, images)
    except Exception as error:  # torch raises whatever an operator does on another number of images
        raise ModelError(_fixed(file, first_line(error))) from error
    found = answer if isinstance(answer, tuple) else (answer,)
    largest = max(map(_difference, found, expected))
    if largest <= TOLERANCE:
        return
    if (first := _first_different(file, values)) is not None:
        raise ModelError(
            f"{describe_node(file.name, first)} gives other values in torch than in onnxruntime; the network's answers "
            f"differ by {largest:.1e}, allowed is {TOLERANCE:.0e}: {AGAIN}"
        )
    raise ModelError(_fixed(file, f"its answers differ by {largest:.1e}, allowed is {TOLERANCE:.0e}"))


def _run_quietly(network: fx.GraphModule, images: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Return the answer; a graph is interpreted, since its own code prints a page where it fails."""
    interpreter = fx.Interpreter(network)
    interpreter.extra_traceback = False
    found: Tensor | tuple[Tensor, ...] = interpreter.run(images)
    return found


def _fixed(file: ModelFile, reason: str) -> str:
    """Return what is said of a network that is only right for as many images as it was written with."""
    opened = f"export it with an open batch (dynamic_axes={{{file.input!r}: {{0: 'batch'}}}}), or "
    return (
        f"{file.name} answers several images otherwise than each by itself: their number stands in it, or is not in "
        f"the first dimension throughout ({reason}); {'' if file.batch is None else opened}give the PyTorch network: "
        "--model file.py:FACTORY --weights FILE"
    )


def _answers(file: ModelFile, images: Tensor) -> list[Constant]:
    """Return each output for all images, a row an image, asked for as many at once as the file has to have.

    A file with an open batch is asked for one: that much all of them can, whatever stands in their reshapes.
    """
    size = file.batch or 1
    filled = torch.cat([images, images[:1].expand(-len(images) % size, *images.shape[1:])])
    pieces = _run(file, [output.name for output in file.proto.graph.output], torch.split(filled, size))
    rows = ([part.reshape(size, -1) for part in parts] for parts in zip(*pieces, strict=True))
    return [np.concatenate(parts)[: len(images)] for parts in rows]


def _run(file: ModelFile, outputs: Sequence[str], batches: Sequence[Tensor]) -> list[list[Constant]]:
    """Return the values of these names for each batch."""
    proto = file.proto
    if others := set(outputs) - {output.name for output in proto.graph.output}:
        proto = onnx.ModelProto()
        proto.CopyFrom(file.proto)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in others)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
        return [session.run(list(outputs), {file.input: images.contiguous().numpy()}) for images in batches]
    except Exception as error:  # onnxruntime's errors share no base
        raise ModelError(
            f"{file.name} cannot be run by onnxruntime on images of {file.shape}: {first_line(error)}; {AGAIN}"
        ) from error


def _difference(found: Tensor, expected: Constant) -> float:
    """Return the largest difference, relative to the largest value where that is above one."""
    if found.numel() != expected.size:
        return math.inf
    wanted = torch.from_numpy(np.ascontiguousarray(expected)).reshape(-1)
    difference = (found.reshape(-1) - wanted).abs().max().item()
    return math.inf if math.isnan(difference) else difference / max(1.0, wanted.abs().max().item())


def _first_different(file: ModelFile, values: Mapping[str, Constant | Made]) -> onnx.NodeProto | None:
    """Return the first operator whose values are not onnxruntime's, on the images that the network was written with."""
    image = values[file.input]
    assert isinstance(image, Made)  # the converter begins with it
    made = {
        node.output[0]: (node, value.value)
        for node in file.proto.graph.node
        if isinstance(value := values.get(node.output[0]), Made) and isinstance(value.value, Tensor)
    }
    (expected,) = _run(file, list(made), [image.value])
    wrong = (node for (node, value), own in zip(made.values(), expected, strict=True) if _differ(value, own))
    return next(wrong, None)


def _differ(found: Tensor, expected: Constant) -> bool:
    return _difference(found, expected) > TOLERANCE
