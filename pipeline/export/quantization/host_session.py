"""ONNX Runtime on this machine, beside whatever else runs here: the board may be this very machine."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from pipeline.export.onnx.torch_exporter import quiet


def open_session(
    file: bytes, *, optimised: Path | None = None, basic: bool = False, silent: bool = False
) -> onnxruntime.InferenceSession:
    """Open a file with as many threads as torch has, none of which spins.

    Args:
        optimised: where the runtime writes what it makes of the file.
        basic: optimise only by what keeps to ONNX's own operators.
        silent: say nothing of what fails: it is tried, and given up.

    Raises:
        Exception: onnxruntime's own, which share no base: the file cannot be loaded.
    """
    options = quiet()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if basic:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if silent:
        options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
