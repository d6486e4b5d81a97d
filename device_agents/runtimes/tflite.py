"""TFLite on the processor, by LiteRT or by the older tflite-runtime, whichever is there: one interpreter, two names.

LiteRT has wheels for 64-bit systems and Python 3.9 on, tflite-runtime for 32-bit ones too and Python 3.7 to 3.11.
Options: ``xnnpack`` false keeps the whole network on TFLite's own kernels. The thread pool has no switch for spinning.
"""

import importlib
from typing import Any, Dict, List, Optional, Tuple

from device_agents import distributions
from device_agents.runtimes import own
from device_agents.runtimes._feed import all_finite, as_rows, given_feed, random_feed

LOADS = "tflite"
INSTALL = "python3 -m pip install ai-edge-litert"
_LIBRARIES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
"""Package and distribution, the newer first."""
_DEFAULTS = {"xnnpack": True}
_DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool")


def installed() -> Optional[str]:
    """Return the installed version without importing it."""
    for package, distribution in _LIBRARIES:
        found = distributions.version(package, distribution)
        if found is not None:
            return "%s (%s)" % (found, distribution)
    return None


def version() -> str:
    """Import the library and return its version."""
    _library()
    return str(installed())


def load(path: str, options: Dict[str, Any], seed: int) -> "Model":
    """Create an interpreter with ``options["threads"]`` threads; XNNPACK takes what it can."""
    chosen = own(options, _DEFAULTS)
    if options.get("spinning") is not None:
        raise ValueError("TFLite's thread pool has no switch for spinning: leave it out")
    library = _library()
    kernels = library.OpResolverType.AUTO if chosen["xnnpack"] else _plain_kernels(library)
    interpreter = library.Interpreter(
        model_path=path, num_threads=options["threads"], experimental_op_resolver_type=kernels
    )
    interpreter.allocate_tensors()
    return Model(interpreter, chosen, seed)


class Model:
    """An interpreter and one prepared input."""

    def __init__(self, interpreter: Any, about: Dict[str, Any], seed: int) -> None:
        details = interpreter.get_input_details()
        self.inputs: List[Tuple[str, List[int], str]] = [_describe(detail) for detail in details]
        first = self.inputs[0][1][:1] if self.inputs else []
        self.batch: Optional[int] = first[0] if first else None
        self.about = about
        self._interpreter = interpreter
        self._places: List[int] = [detail["index"] for detail in details]
        self._outputs: List[int] = [detail["index"] for detail in interpreter.get_output_details()]
        feed = random_feed(self.inputs, seed)
        for place, (name, _, _) in zip(self._places, self.inputs):
            interpreter.set_tensor(place, feed[name])

    def step(self) -> None:
        """Run one inference on the prepared input."""
        self._interpreter.invoke()

    def finite(self) -> bool:
        """Whether one inference gives finite numbers only."""
        self._interpreter.invoke()
        return all_finite(self._interpreter.get_tensor(place) for place in self._outputs)

    def outputs(self, values: bytes, shape: Tuple[int, ...]) -> bytes:
        """Run the images through the network; returns all outputs."""
        feed = given_feed(self.inputs, values, shape)
        for place, (name, _, _) in zip(self._places, self.inputs):
            self._interpreter.set_tensor(place, feed[name])
        self._interpreter.invoke()
        return as_rows([self._interpreter.get_tensor(place) for place in self._outputs], shape[0])


def _library() -> Any:
    """Import the newer of the two libraries that is there."""
    for package, _ in _LIBRARIES:
        if distributions.version(package) is not None:
            if package == "tflite_runtime":
                _require_older_numpy()
            return importlib.import_module(package + ".interpreter")
    raise ImportError("neither ai-edge-litert nor tflite-runtime is installed: " + INSTALL)


def _require_older_numpy() -> None:
    """Every tflite-runtime was built for numpy 1; beside numpy 2 it raises a SystemError that names neither."""
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise ImportError(
            "tflite-runtime does not work with numpy %s: python3 -m pip install 'numpy<2', or ai-edge-litert instead"
            % numpy.__version__
        )


def _plain_kernels(library: Any) -> Any:
    return library.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def _describe(detail: Dict[str, Any]) -> Tuple[str, List[int], str]:
    import numpy

    name, dtype = str(detail["name"]), numpy.dtype(detail["dtype"]).name
    if dtype not in _DTYPES:
        raise TypeError("input %r is of %s; this agent feeds %s" % (name, dtype, ", ".join(_DTYPES)))
    return name, [int(length) for length in detail["shape"]], dtype
