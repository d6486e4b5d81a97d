"""TensorRT 8.0 to 10.x on an NVIDIA GPU: engines built on the board, run with the copies to and from the GPU included.

Never run on a Jetson by those who wrote it, nor with TensorRT's builder. What was checked instead: every name, against
NVIDIA's binding sources (github.com/NVIDIA/TensorRT, python/src/infer/pyCore.cpp and python/src/parsers/pyOnnx.cpp of
8.2) and guides ("Migrating Python Code from TensorRT 8.x to 10.x", "API Changes For TensorRT 8.4.0 EA"); those of
runtime, engine and context, against TensorRT 10's own classes; the calls of CUDA, against its library without a GPU.

A file says itself in which precision its engine computes: quantize-dequantize pairs are INT8, the metadata property
``pipeline.precision: fp16`` is half precision. A GPU that is not fast at it refuses such a file; nothing falls back
without a word. So a candidate in half precision is measured beside a reference in single.

Options: ``fp16``, half precision for every file that asks for none, where the GPU is fast at it (not from 11 on, where
the file alone decides); ``workspace_mb``, GPU memory that a layer may take while an engine is built and run.
``spinning``: whether the processor spins on a core or sleeps while it waits for the GPU; CUDA chooses unless told.
"""

import contextlib
import functools
import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

from device_agents import distributions, engines, modes, onnx_operators, readings
from device_agents.digest import sha256
from device_agents.runtimes import own
from device_agents.runtimes._feed import all_finite, as_rows, given_feed, random_feed
from device_agents.runtimes._trt_calls import Tensor, calls, fixed

if TYPE_CHECKING:
    from device_agents.cudart import Cuda

LOADS = "onnx"
RUNS_ON = "GPU"
BUILDS = True
INSTALL = "# a Jetson has it from JetPack, for the system's python3 alone (sudo apt-get install python3-libnvinfer)"

_DEFAULTS = {"fp16": False, "workspace_mb": 256}
_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
_MEGABYTE = 1 << 20
PRECISION = "pipeline.precision"
"""The metadata property of a file that asks for a precision."""
FP32, FP16, INT8 = "fp32", "fp16", "int8"


def installed() -> Optional[str]:
    """Return the installed version without importing it."""
    return distributions.version("tensorrt", *_PACKAGES)


def version() -> str:
    """Import the library and return its version; raises CudaError where there is no GPU to run on."""
    import tensorrt

    _library().device()
    return str(tensorrt.__version__)


def recipe(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return what decides an engine besides the model: the options, and what times the layers while it is built."""
    chosen = own(options, _DEFAULTS)
    if chosen["workspace_mb"] < 1:
        raise ValueError("runtime option workspace_mb is %r, expected at least 1" % chosen["workspace_mb"])
    return dict(chosen, tensorrt=version(), gpu=_library().device(), power_mode=power_mode())


def power_mode(root: str = readings.ROOT) -> str:
    """Return nvpmodel's mode, a number; it sets the clocks that the builder times layers at.

    ``nvpmodel -q`` tells it, on some boards to root alone; so does /var/lib/nvpmodel/status (``pmode:0000``).
    """
    mode = modes.nvpmodel()
    if mode is not None:
        return str(mode)
    try:
        with open(os.path.join(root, "var/lib/nvpmodel/status"), encoding="ascii") as file:
            found = re.search(r"pmode:(\d+)", file.read())
    except (OSError, ValueError):
        found = None
    return str(int(found.group(1))) if found else "unknown"


# ---------------------------------------------------------------- building


def build(model: str, recipe: Dict[str, Any], workspace_mb: int) -> Tuple[bytes, Dict[str, Any]]:
    """Return an engine for the ONNX file, and how it was built.

    Raises:
        ValueError: the parser refuses the file; says why.
        MemoryError: the builder gave nothing, which it does when memory ends.
    """
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)  # has to outlive the build: the weights are the parser's
    with open(model, "rb") as file:
        if not parser.parse(file.read()):
            errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
            raise ValueError("TensorRT %s cannot read the file: %s" % (trt.__version__, "; ".join(errors)))
    config = builder.create_builder_config()
    limit_workspace(trt, config, workspace_mb * _MEGABYTE)
    precision = choose_precision(trt, builder, config, asked_precision(model), recipe["fp16"])
    _fix_shapes(builder, config, [network.get_input(number) for number in range(network.num_inputs)])
    with timing_cache(config, timing_path(model, recipe)):
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise MemoryError("TensorRT's builder gave no engine")
    about = {name: recipe[name] for name in ("tensorrt", "gpu", "power_mode")}
    return bytes(engine), dict(about, precision=precision, workspace_mb=workspace_mb)


def network_flags(trt: Any) -> int:
    """Return the flags of a network whose batch is an ordinary dimension: to be asked for before TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def limit_workspace(trt: Any, config: Any, size: int) -> None:
    """Limit the workspace to ``size`` bytes; the property of 8.3 and before was taken away in 10.0."""
    if hasattr(config, "set_memory_pool_limit"):  # 8.4 and later
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size


def asked_precision(model: str) -> Optional[str]:
    """Return the precision that an ONNX file asks for: int8, fp16, or None where it leaves that to the options.

    Raises:
        ValueError: it is no ONNX file, or asks for something that no engine is built in.
    """
    if onnx_operators.is_quantized(onnx_operators.operators(model)):
        return INT8
    asked = onnx_operators.metadata(model).get(PRECISION)
    if asked not in (None, FP16):
        raise ValueError("the file asks for %s %r; expected is %s" % (PRECISION, asked, FP16))
    return asked


def choose_precision(trt: Any, builder: Any, config: Any, asked: Optional[str], fp16: bool) -> str:
    """Set the builder's flag, and return int8, fp16 or fp32; TensorRT still keeps single layers in more where faster.

    Args:
        asked: by the file.
        fp16: whether a file that asks for nothing is built in half precision, where the GPU is fast at it.

    Raises:
        ValueError: the GPU, or this TensorRT, has not what was asked for.
    """
    if asked == INT8:
        _require_fast(builder, "platform_has_fast_int8", "INT8")
        if hasattr(trt.BuilderFlag, "INT8"):  # from 11 on the pairs in the file alone decide
            config.set_flag(trt.BuilderFlag.INT8)
        return INT8
    if asked is None and not fp16:
        return FP32
    if not hasattr(trt.BuilderFlag, "FP16"):
        raise ValueError("TensorRT %s has no fp16 option: convert the model instead" % trt.__version__)
    if asked == FP16:
        _require_fast(builder, "platform_has_fast_fp16", "FP16")
    elif not getattr(builder, "platform_has_fast_fp16", True):
        return FP32
    config.set_flag(trt.BuilderFlag.FP16)
    return FP16


def _require_fast(builder: Any, property_: str, shown: str) -> None:
    if not getattr(builder, property_, True):
        raise ValueError("this GPU has no fast %s (TensorRT's %s): build the float32 file" % (shown, property_))


def _fix_shapes(builder: Any, config: Any, inputs: List[Any]) -> None:
    """Let every length that the file leaves open be 1, and nothing else."""
    if not any(length < 0 for tensor in inputs for length in tensor.shape):
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        shape = fixed(tensor.shape)
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)


def timing_path(model: str, recipe: Dict[str, Any]) -> str:
    """Return the file of the layers' times: they hold for a GPU, a version and a power mode, whatever the model."""
    told = json.dumps([recipe[name] for name in ("gpu", "tensorrt", "power_mode")])
    name = sha256(told.encode("utf-8")).hexdigest()
    return os.path.join(os.path.dirname(model), name + ".timings")


@contextlib.contextmanager
def timing_cache(config: Any, path: str) -> Iterator[None]:
    """Let the builder use the times that earlier builds took, and keep those of this one."""
    try:
        with open(path, "rb") as file:
            known = file.read()
    except FileNotFoundError:
        known = b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # damaged, or another version's
        config.set_timing_cache(config.create_timing_cache(b""), False)
    yield
    engines.write_private(path, bytes(config.get_timing_cache().serialize()))


# ---------------------------------------------------------------- running


def load(path: str, options: Dict[str, Any], seed: int) -> "Model":
    """Load an engine that this board built."""
    engine, about = engines.read(path)
    spinning = options.get("spinning")
    return Model(engine, dict(about, copies="included", spinning=spinning), _cuda(spinning), seed)


@functools.lru_cache(maxsize=None)
def _cuda(spinning: Optional[bool]) -> "Cuda":
    """Return the library, told once in this process how to wait."""
    cuda = _library()
    cuda.wait_by(spinning)
    return cuda


def _library() -> "Cuda":
    from device_agents.cudart import Cuda  # not above: hello loads every runtime's module, and ctypes is not small

    return Cuda()


class Buffer:
    """A tensor's memory on the GPU, and its twin on the host as a numpy array."""

    def __init__(self, cuda: "Cuda", tensor: Tensor) -> None:
        import ctypes

        import numpy

        if any(length < 1 for length in tensor.shape):
            raise ValueError("tensor %s is of the open shape %s: not supported" % (tensor.name, tensor.shape))
        self.tensor = tensor
        self.size = int(numpy.prod(tensor.shape, dtype=int)) * numpy.dtype(tensor.dtype).itemsize
        self.device = cuda.allocate(self.size)
        self.address = cuda.allocate_host(self.size)
        raw = (ctypes.c_ubyte * self.size).from_address(self.address)
        self.host = numpy.frombuffer(memoryview(raw), dtype=tensor.dtype).reshape(tensor.shape)


class Model:
    """An engine, its context, and one prepared input. Its memory goes with the process."""

    def __init__(self, engine: bytes, about: Dict[str, Any], cuda: "Cuda", seed: int) -> None:
        import tensorrt as trt

        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = _there("deserialize_cuda_engine", self._runtime.deserialize_cuda_engine(engine))
        context = _there("create_execution_context", self._engine.create_execution_context())
        self._calls = calls(trt, self._engine, context)
        self._cuda = cuda
        self._stream = cuda.new_stream()
        buffers = [Buffer(cuda, tensor) for tensor in self._calls.tensors]
        self._calls.bind([buffer.device for buffer in buffers])
        self._inputs = [buffer for buffer in buffers if buffer.tensor.is_input]
        self._outputs = [buffer for buffer in buffers if not buffer.tensor.is_input]
        self.inputs = [(b.tensor.name, list(b.tensor.shape), b.tensor.dtype) for b in self._inputs]
        self.batch: Optional[int] = next(iter(self.inputs[0][1]), None)
        self.about = about
        feed = random_feed(self.inputs, seed)
        for buffer in self._inputs:
            buffer.host[...] = feed[buffer.tensor.name]

    def step(self) -> None:
        """Copy the input to the GPU, run one inference, copy the outputs back, and wait for it all."""
        cuda, stream = self._cuda, self._stream
        for buffer in self._inputs:
            cuda.copy_to_device(buffer.device, buffer.address, buffer.size, stream)
        self._calls.execute(stream)
        for buffer in self._outputs:
            cuda.copy_to_host(buffer.address, buffer.device, buffer.size, stream)
        cuda.synchronize(stream)

    def finite(self) -> bool:
        """Whether one inference gives finite numbers only."""
        self.step()
        return all_finite(buffer.host for buffer in self._outputs)

    def outputs(self, values: bytes, shape: Tuple[int, ...]) -> bytes:
        """Run the images through the network; returns all outputs."""
        feed = given_feed(self.inputs, values, shape)
        for buffer in self._inputs:
            buffer.host[...] = feed[buffer.tensor.name]
        self.step()
        return as_rows([buffer.host for buffer in self._outputs], shape[0])


def _there(call: str, result: Any) -> Any:
    if result is None:
        raise RuntimeError("TensorRT: %s gave nothing" % call)
    return result
