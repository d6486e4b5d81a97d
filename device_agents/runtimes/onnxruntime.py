"""ONNX Runtime on the processor; from 1.10 (the last that Python 3.6, and so a Jetson Nano, can have) onwards."""

from typing import Any, Dict, List, Optional, Tuple

from device_agents import distributions

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


def installed() -> Optional[str]:
    """Return the installed version without importing it."""
    return distributions.version("onnxruntime", "onnxruntime", "onnxruntime-gpu")


def version() -> str:
    """Import the library and return its version."""
    import onnxruntime  # here, not above: an import takes seconds on a board, and hello has to be quick

    return str(onnxruntime.__version__)


def load(path: str, options: Dict[str, Any], seed: int) -> "Model":
    """Create a session on the CPU provider."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options["threads"]
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = _ERRORS_ONLY
    return Model(onnxruntime.InferenceSession(path, sess_options=chosen, providers=["CPUExecutionProvider"]), seed)


class Model:
    """An inference session and one prepared input."""

    def __init__(self, session: Any, seed: int) -> None:
        first = session.get_inputs()[0].shape[:1]
        self.inputs: List[Tuple[str, List[int], str]] = [_describe(node) for node in session.get_inputs()]
        self.batch: Optional[int] = first[0] if first and isinstance(first[0], int) else None
        self._session = session
        self._feed = _random_feed(self.inputs, seed)

    def step(self) -> None:
        """Run one inference on the prepared input."""
        self._session.run(None, self._feed)

    def finite(self) -> bool:
        """Whether one inference gives finite numbers only."""
        import numpy

        outputs = self._session.run(None, self._feed)
        return all(bool(numpy.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")

    def outputs(self, values: bytes, shape: Tuple[int, ...]) -> bytes:
        """Run the images through the network; returns the first output."""
        import numpy

        name, _, dtype = self.inputs[0]
        images = numpy.frombuffer(values, dtype="<f4").reshape(shape).astype(dtype)
        output = self._session.run(None, {name: images})[0]
        return bytes(numpy.ascontiguousarray(output, dtype="<f4").tobytes())


def _describe(node: Any) -> Tuple[str, List[int], str]:
    if node.type not in _DTYPES:
        raise TypeError("input %r is a %s; this agent feeds %s" % (node.name, node.type, ", ".join(sorted(_DTYPES))))
    shape = [length if isinstance(length, int) and length > 0 else 1 for length in node.shape]
    return node.name, shape, _DTYPES[node.type]


def _random_feed(inputs: List[Tuple[str, List[int], str]], seed: int) -> Dict[str, Any]:
    """Return normal values for every input; whole numbers are 0 or 1, which every embedding and mask has."""
    import numpy

    generator = numpy.random.RandomState(seed % 2**32)
    feed = {}
    for name, shape, dtype in inputs:
        values = generator.standard_normal(shape)
        feed[name] = numpy.asarray(values if dtype.startswith("float") else values > 0).astype(dtype)
    return feed
