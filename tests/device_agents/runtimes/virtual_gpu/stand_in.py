"""TensorRT for the virtual GPU, in both of its generations: VIRTUAL_TENSORRT says which version this is.

Of an ONNX file it reads the JSON in its doc_string: {"factor": 2.0, "shape": [-1, 3]}, and it multiplies. More keys:
"needs_mb", the workspace that a build can do with; "errors", the parser's; "dtype", FLOAT unless told; "fails", whether
running does. A file without such a text is a network: onnxruntime computes it, and it takes as long as its bytes and
its precision say, so that what is measured does not depend on the machine.
"""

# ruff: noqa: ARG002, ARG005 - the signatures are TensorRT's

import base64
import ctypes
import json
import os
import sys
import time
from enum import Enum, IntEnum
from types import SimpleNamespace

__version__ = os.environ.get("VIRTUAL_TENSORRT", "10.3.0")
_RELEASE = tuple(int(part) for part in __version__.split(".")[:2])
_NAMED = _RELEASE >= (8, 5)
_SM = int(os.environ.get("VIRTUAL_SM", "53"))
_MS, _MS_A_MEGABYTE = 4.0, 40.0
_SHARES = {"fp32": 1.0, "fp16": float(os.environ.get("VIRTUAL_FP16", "0.2")), "int8": 0.1}
"""Of the time in single precision."""

DataType = Enum("DataType", "FLOAT HALF INT8 INT32 BOOL FP8")
NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", start=0)
BuilderFlag = IntEnum("BuilderFlag", "FP16 INT8", start=0)
if _RELEASE >= (8, 4):
    MemoryPoolType = IntEnum("MemoryPoolType", "WORKSPACE", start=0)
if _NAMED:
    TensorIOMode = IntEnum("TensorIOMode", "NONE INPUT OUTPUT", start=0)


class Logger:
    WARNING = 2

    def __init__(self, min_severity):
        pass


class Profile(dict):
    def set_shape(self, name, least, best, most):
        assert least == best == most
        self[name] = best


class Config:
    def __init__(self):
        self.flags, self.profiles, self.cache = set(), [], None
        if _RELEASE < (8, 4):
            self.max_workspace_size = 1 << 40
        else:
            self.set_memory_pool_limit = self._limit

    def _limit(self, pool, pool_size):
        assert pool is MemoryPoolType.WORKSPACE
        self.limit = pool_size

    @property
    def workspace(self):
        return self.max_workspace_size if _RELEASE < (8, 4) else self.limit

    def set_flag(self, flag):
        self.flags.add(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)

    def create_timing_cache(self, serialized_timing_cache):
        return SimpleNamespace(serialize=lambda: serialized_timing_cache + b"t")

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class Builder:
    platform_has_fast_fp16 = True
    platform_has_fast_int8 = _SM not in (53, 60, 62)

    def __init__(self, logger):
        pass

    def create_network(self, flags=0):
        if _RELEASE < (10, 0):
            assert flags == 1, "an implicit batch: the parser refuses that"
        return SimpleNamespace(num_inputs=1, model=None)

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        model = network.model
        if -1 in model["shape"] and not config.profiles:
            return None  # "Network has dynamic or shape inputs, but no optimization profile has been defined"
        if config.workspace > model.get("needs_mb", 1 << 20) << 20:
            sys.stderr.write("[TRT] [E] 1: Cuda Runtime (out of memory)\n")
            return None
        return json.dumps(dict(model, flags=sorted(flag.name for flag in config.flags))).encode()


class OnnxParser:
    def __init__(self, network, logger):
        self._network, self._errors = network, []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]

    def parse(self, model):
        told = _told(model)
        self._errors = told.get("errors", [])
        self._network.model = told
        self._network.get_input = lambda number: SimpleNamespace(name="x", shape=tuple(told["shape"]))
        return not self._errors


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, serialized_engine):
        return (NamedEngine if _NAMED else NumberedEngine)(json.loads(serialized_engine.decode()))


def _told(model):
    """Return what a file tells; of a network, the file itself, and the shapes of its input and its output."""
    start = model.find(b'{"factor"')
    if start >= 0:
        return json.JSONDecoder().raw_decode(model[start:].decode("latin-1"))[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shapes = [one.shape for one in (session.get_inputs()[0], session.get_outputs()[0])]
    return {"network": base64.b64encode(model).decode(), "shape": shapes[0], "answer": shapes[1]}


class Network:
    """A real file's answers, rounded as its engine was built, and the time that it takes."""

    def __init__(self, model):
        import onnxruntime

        data = base64.b64decode(model["network"])
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        self.precision = (model["flags"] or ["fp32"])[0].lower()
        self.seconds = (_MS + _MS_A_MEGABYTE * len(data) / 1e6) * _SHARES[self.precision] / 1e3
        self.shapes = model["shape"], model["answer"]
        self.known = b"", None

    def compute(self, addresses):
        import numpy

        start = time.perf_counter()
        arrays = []
        for address, shape in zip(addresses, self.shapes):  # noqa: B905 - Python 3.6 reads this, too
            raw = (ctypes.c_float * int(numpy.prod(shape))).from_address(address)
            arrays.append(numpy.frombuffer(raw, "<f4").reshape(shape))
        image, answer = arrays
        if image.tobytes() != self.known[0]:
            found = self.session.run(None, {self.session.get_inputs()[0].name: image})[0]
            self.known = image.tobytes(), found.astype("<f2") if self.precision == "fp16" else found
        answer[...] = self.known[1]
        time.sleep(max(0.0, start + self.seconds - time.perf_counter()))  # asleep, since others may want the processor


class Engine:
    def __init__(self, model):
        self.model = model

    def create_execution_context(self):
        return (NamedContext if _NAMED else NumberedContext)(self.model)


class Context:
    def __init__(self, model):
        self.model, self.shape, self.addresses = model, tuple(model["shape"]), [None, None]
        self.network = Network(model) if "network" in model else None
        self.call = ctypes.CFUNCTYPE(None)(lambda: self.network.compute(self.addresses))

    def fix(self, shape):
        self.shape = tuple(shape)
        return -1 not in shape

    def run(self, stream):
        if self.model.get("fails"):
            return False
        cuda = ctypes.CDLL("libcudart.so.13")  # the one that is loaded already
        if self.network:
            return cuda.virtualCall(self.call, ctypes.c_void_p(stream)) == 0
        size = 4
        for length in self.shape:
            size *= length
        to, source = (ctypes.c_void_p(self.addresses[number]) for number in (1, 0))
        factor = ctypes.c_float(self.model["factor"])
        return cuda.virtualScale(to, source, ctypes.c_size_t(size), factor, ctypes.c_void_p(stream)) == 0


class NumberedEngine(Engine):
    num_bindings = 2

    def __getitem__(self, number):
        return "xy"[number]

    def binding_is_input(self, name):
        return name == "x"

    def get_binding_shape(self, name):
        return tuple(self.model["shape"] if name == "x" else self.model.get("answer", self.model["shape"]))

    def get_binding_dtype(self, name):
        return DataType[self.model.get("dtype", "FLOAT")]


class NumberedContext(Context):
    def set_binding_shape(self, number, shape):
        return number == 0 and self.fix(shape)

    def get_binding_shape(self, number):
        return self.shape if number == 0 else tuple(self.model.get("answer", self.shape))

    def execute_async_v2(self, bindings, stream_handle):
        self.addresses = bindings
        return self.run(stream_handle)


class NamedEngine(Engine):
    num_io_tensors = 2

    def get_tensor_name(self, number):
        return "xy"[number]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self.model["shape"] if name == "x" else self.model.get("answer", self.model["shape"]))

    def get_tensor_dtype(self, name):
        return DataType[self.model.get("dtype", "FLOAT")]


class NamedContext(Context):
    def set_input_shape(self, name, shape):
        return name == "x" and self.fix(shape)

    def get_tensor_shape(self, name):
        return self.shape if name == "x" else tuple(self.model.get("answer", self.shape))

    def set_tensor_address(self, name, memory):
        self.addresses["xy".index(name)] = memory
        return True

    def execute_async_v3(self, stream_handle):
        return self.run(stream_handle)
