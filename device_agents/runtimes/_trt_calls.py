"""TensorRT's two ways to name, feed and run an engine's inputs and outputs.

Up to 8.4 they have numbers, called bindings; 8.5 brought names beside them, and 10.0 took the numbers away (NVIDIA,
"Migrating Python Code from TensorRT 8.x to 10.x"). Which there is, the engine's own class tells.
"""

from typing import Any, List, NamedTuple, Tuple

_DTYPES = {  # tensorrt.DataType's names; older versions' tensorrt.nptype needs numpy.bool, which numpy 1.24 took away
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def calls(trt: Any, engine: Any, context: Any) -> Any:
    """Return how to run this engine; every open length of its inputs becomes 1."""
    if hasattr(engine, "num_io_tensors"):
        return Named(trt, engine, context)
    return Numbered(engine, context)


class Tensor(NamedTuple):
    """An input or output of an engine."""

    name: str
    is_input: bool
    shape: Tuple[int, ...]
    dtype: str


class Named:
    """An engine's tensors by name: TensorRT 8.5 and later."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._context = context
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        for name in inputs:
            _done("set_input_shape", context.set_input_shape(name, fixed(engine.get_tensor_shape(name))))
        self.tensors = [
            Tensor(name, name in inputs, tuple(context.get_tensor_shape(name)), _dtype(engine.get_tensor_dtype(name)))
            for name in names
        ]

    def bind(self, addresses: List[int]) -> None:
        """Say where the tensors lie, in their order."""
        for tensor, address in zip(self.tensors, addresses):
            _done("set_tensor_address", self._context.set_tensor_address(tensor.name, address))

    def execute(self, stream: int) -> None:
        """Begin an inference."""
        _done("execute_async_v3", self._context.execute_async_v3(stream))


class Numbered:
    """An engine's tensors by number: TensorRT 8.0 to 8.4."""

    def __init__(self, engine: Any, context: Any) -> None:
        self._context = context
        self._addresses: List[int] = []
        names = [engine[number] for number in range(engine.num_bindings)]
        for number, name in enumerate(names):
            if engine.binding_is_input(name):
                shape = fixed(engine.get_binding_shape(name))
                _done("set_binding_shape", context.set_binding_shape(number, shape))
        self.tensors = [
            Tensor(
                name,
                bool(engine.binding_is_input(name)),
                tuple(context.get_binding_shape(number)),
                _dtype(engine.get_binding_dtype(name)),
            )
            for number, name in enumerate(names)
        ]

    def bind(self, addresses: List[int]) -> None:
        """Say where the tensors lie, in their order."""
        self._addresses = addresses

    def execute(self, stream: int) -> None:
        """Begin an inference."""
        _done("execute_async_v2", self._context.execute_async_v2(self._addresses, stream))


def fixed(shape: Any) -> Tuple[int, ...]:
    """Return a shape whose open lengths, -1, are 1.

    >>> fixed((-1, 3, 8, 8))
    (1, 3, 8, 8)
    """
    return tuple(1 if length < 0 else int(length) for length in shape)


def _dtype(dtype: Any) -> str:
    if dtype.name not in _DTYPES:
        raise TypeError("a tensor of %s; this agent feeds %s" % (dtype.name, ", ".join(sorted(_DTYPES))))
    return _DTYPES[dtype.name]


def _done(call: str, succeeded: Any) -> None:
    if not succeeded:
        raise RuntimeError("TensorRT: %s failed" % call)
