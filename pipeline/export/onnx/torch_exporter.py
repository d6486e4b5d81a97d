"""torch's exporter: one ONNX file of a network or an operation, constants folded, and its failures in one sentence."""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.errors import ExportError, first_line
from pipeline.export.onnx.adaptive_pooling import AdaptivePooling
from pipeline.records import OnnxSupport

NEWEST = 17
"""The op set that torch's exporter knows fully; it writes none above."""


def opset_of(support: OnnxSupport) -> int:
    """Return the op set that files are written in."""
    return min(NEWEST, support.opset)


def exported(
    model: nn.Module, inputs: tuple[Tensor, ...], opset: int, input_names: list[str], output_names: list[str] | None
) -> onnx.ModelProto:
    """Return what torch's exporter makes of ``model``, constants and batch norm folded; raises ExportError."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), AdaptivePooling(), _without_its_graph():
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
        raise ExportError(f"the network cannot be written as ONNX opset {opset}: {_reason(error)}") from error
    return _folded(buffer.getvalue())


@contextmanager
def _without_its_graph() -> Iterator[None]:
    """Keep torch's exporter from printing the graph of what it cannot write, pages long, past Python's own output."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = _said_nothing
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def _said_nothing(*_: Any) -> None:
    """Stand for torch's printing; torch 2.13 has no option for it: it turns that on again at each export."""


def _reason(error: Exception) -> str:
    """Return what the exporter says, without whom to ask and the value of its own that it stopped at.

    >>> _reason(RuntimeError("ONNX export of operator x, of y. Please feel free to request support or [Caused by ..."))
    'ONNX export of operator x, of y'
    """
    kept = re.split(r"\s*(?:\.\s+Please |Please (?:feel free|open)|\[Caused by)", first_line(error))[0]
    return kept.strip() or type(error).__name__


def _folded(data: bytes) -> onnx.ModelProto:
    """Return the file with constants folded and batch norm merged by onnxruntime's basic, portable rewrites.

    torch writes a chain of a dozen constant nodes for each padded shortcut, which TensorRT's parser stumbles over.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = quiet()
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


def quiet() -> onnxruntime.SessionOptions:
    """Return settings for a quiet session that keeps to torch's threads: the board may be this very machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return options
