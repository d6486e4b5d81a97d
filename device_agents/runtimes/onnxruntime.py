"""ONNX Runtime on the processor; from 1.10 (the last that Python 3.6, and so a Jetson Nano, can have) onwards.

Options: ``graph_optimization`` all, extended, basic or disable; ``execution_mode`` sequential or parallel. ``spinning``
sets the session's ``session.intra_op.allow_spinning``, which every version from 1.10 on knows.

Of a quantized file it says how many operators really compute in INT8 here (``int8_operators`` of ``operators``): pairs
that the runtime does not fuse still answer right, and slower than float.
"""

import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from device_agents import distributions
from device_agents.runtimes import one_of, own
from device_agents.runtimes._feed import all_finite, as_rows, given_feed, random_feed

LOADS = "onnx"
NOT_ON = {
    "armv6l": "install the 64-bit system, or use `runtime: tflite`",
    "armv7l": "install the 64-bit system, or use `runtime: tflite`",
}
# The ONNX release that each version was built with (onnxruntime.ai, Compatibility), and that release's opset and IR
# (onnx, docs/Versioning.md). Later ones load these too; nothing that is exported needs newer.
ONNX_LIMITS = {
    "1.7": (13, 7),
    "1.8": (14, 7),
    "1.9": (15, 7),
    "1.10": (15, 8),
    "1.11": (16, 8),
    "1.12": (17, 8),
    "1.14": (18, 8),
    "1.15": (19, 9),
    "1.17": (20, 9),
    "1.18": (21, 10),
}
# What each version computes in INT8 of the operators that stand between dequantizing and quantizing, from that one on:
# counted in the files that 1.8.1, 1.10.0, 1.12.1, 1.14.1 and 1.32.0 made of such networks (1.11 was not to be had).
INT8_OPERATORS = {
    "1.8": ("Conv", "MatMul", "Add", "Mul", "Concat", "AveragePool"),
    "1.12": (
        "Conv",
        "MatMul",
        "Add",
        "Mul",
        "Concat",
        "AveragePool",
        "Gemm",
        "GlobalAveragePool",
        "Sigmoid",
        "LeakyRelu",
    ),
}

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3
_DEFAULTS = {"graph_optimization": "all", "execution_mode": "sequential"}
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disable": "ORT_DISABLE_ALL",
}
_MODES = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
_SPINNING = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")
_SPINS_BY_DEFAULT = True  # onnxruntime_session_options_config_keys.h


def installed() -> Optional[str]:
    """Return the installed version without importing it."""
    return distributions.version("onnxruntime", "onnxruntime", "onnxruntime-gpu")


def version() -> str:
    """Import the library and return its version."""
    import onnxruntime  # here, not above: an import takes seconds on a board, and hello has to be quick

    return str(onnxruntime.__version__)


def load(path: str, options: Dict[str, Any], seed: int) -> "Model":
    """Create a session on the CPU provider."""
    chosen = _session_options(options)
    session = _session(path, chosen)
    return Model(session, seed, lambda: _fused(path, options))


def _session(path: str, chosen: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, sess_options=chosen, providers=["CPUExecutionProvider"])


def _session_options(options: Dict[str, Any]) -> Any:
    import onnxruntime

    wanted = own(options, _DEFAULTS)
    spinning = _SPINS_BY_DEFAULT if options.get("spinning") is None else options["spinning"]
    level = one_of("graph_optimization", wanted["graph_optimization"], _LEVELS)
    mode = one_of("execution_mode", wanted["execution_mode"], _MODES)
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options["threads"]
    chosen.inter_op_num_threads = options["threads"] if mode == "ORT_PARALLEL" else 1
    chosen.execution_mode = getattr(onnxruntime.ExecutionMode, mode)
    chosen.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for key in _SPINNING:
        chosen.add_session_config_entry(key, "1" if spinning else "0")
    chosen.log_severity_level = _ERRORS_ONLY
    return chosen


def _fused(path: str, options: Dict[str, Any]) -> Dict[str, int]:
    """Return how many operators a quantized file comes to here, and how many of them compute in INT8."""
    import tempfile  # here, not above: hello loads every runtime's module, and has to be quick

    from device_agents import onnx_operators

    if not onnx_operators.is_quantized(onnx_operators.operators(path)):
        return {}
    chosen = _session_options(options)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        chosen.optimized_model_filepath = os.path.join(folder, "optimised.onnx")
        _session(path, chosen)
        found = onnx_operators.operators(chosen.optimized_model_filepath)
    return {"int8_operators": onnx_operators.int8(found), "operators": sum(found.values())}


class Model:
    """An inference session and one prepared input."""

    def __init__(self, session: Any, seed: int, fused: Callable[[], Dict[str, int]]) -> None:
        first = session.get_inputs()[0].shape[:1]
        self.inputs: List[Tuple[str, List[int], str]] = [_describe(node) for node in session.get_inputs()]
        self.batch: Optional[int] = first[0] if first and isinstance(first[0], int) else None
        self._session = session
        self._fused = fused
        self._feed = random_feed(self.inputs, seed)

    @property
    def about(self) -> Dict[str, Any]:
        """What it really runs with; found out when it is asked for, so that it is not in the time of loading."""
        return dict(_about(self._session.get_session_options()), **self._fused())

    def step(self) -> None:
        """Run one inference on the prepared input."""
        self._session.run(None, self._feed)

    def finite(self) -> bool:
        """Whether one inference gives finite numbers only."""
        return all_finite(self._session.run(None, self._feed))

    def outputs(self, values: bytes, shape: Tuple[int, ...]) -> bytes:
        """Run the images through the network; returns all outputs."""
        return as_rows(self._session.run(None, given_feed(self.inputs, values, shape)), shape[0])


def _about(chosen: Any) -> Dict[str, Any]:
    """Return what the session itself says that it runs with."""
    return {
        "graph_optimization": {there: name for name, there in _LEVELS.items()}[chosen.graph_optimization_level.name],
        "execution_mode": {there: name for name, there in _MODES.items()}[chosen.execution_mode.name],
        "spinning": chosen.get_session_config_entry(_SPINNING[0]) == "1",
    }


def _describe(node: Any) -> Tuple[str, List[int], str]:
    if node.type not in _DTYPES:
        raise TypeError("input %r is a %s; this agent feeds %s" % (node.name, node.type, ", ".join(sorted(_DTYPES))))
    shape = [length if isinstance(length, int) and length > 0 else 1 for length in node.shape]
    return node.name, shape, _DTYPES[node.type]
