"""As far down as it goes without a GPU.

Every name that the agent calls is looked up in TensorRT's own interfaces: 10's in its real classes (the lean runtime,
which has no builder), 8.2's in a list of what NVIDIA's binding sources define.
"""

import ast
import inspect
import sys
from types import SimpleNamespace

import pytest

from device_agents import protocol
from device_agents.runtimes import _trt_calls as calls
from device_agents.runtimes import tensorrt as runtime
from tests.device_agents.harness import Agent
from tests.device_agents.runtimes.virtual_gpu import stand_in
from tests.device_agents.runtimes.virtual_gpu.onnx_file import onnx_file

TENSORRT_8_2 = {  # github.com/NVIDIA/TensorRT, release/8.2, python/src: infer/pyCore, infer/pyGraph, parsers/pyOnnx
    "engine": "num_bindings get_binding_name get_binding_index binding_is_input get_binding_shape get_binding_dtype"
    " create_execution_context serialize",
    "context": "execute_v2 execute_async_v2 set_binding_shape get_binding_shape all_binding_shapes_specified",
    "builder": "create_network create_optimization_profile create_builder_config build_engine build_serialized_network"
    " platform_has_fast_fp16 platform_has_fast_int8 max_batch_size",
    "config": "max_workspace_size set_flag get_flag flags add_optimization_profile create_timing_cache"
    " set_timing_cache get_timing_cache",
    "network": "num_inputs get_input num_outputs get_output",
    "parser": "parse parse_from_file num_errors get_error clear_errors",
    "profile": "set_shape get_shape",
    "tensor": "name shape dtype",
    "trt": "Builder OnnxParser Logger Runtime NetworkDefinitionCreationFlag BuilderFlag __version__",
}
SINCE_8_4 = {"config": {"set_memory_pool_limit"}, "trt": {"MemoryPoolType"}}


def used(source, *variables):
    """Return the attributes that a module or class takes of these variables."""
    tree = ast.parse(inspect.getsource(source))
    return {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) in variables
    }


# ---------------------------------------------------------------- names


@pytest.fixture(scope="module")
def tensorrt_10():
    """TensorRT 10's own classes."""
    return pytest.importorskip(
        "tensorrt_lean_bindings", reason="tensorrt-lean-cu12-bindings is not installed: it is for x86-64 Linux"
    )


@pytest.mark.lab
def test_tensorrt_10_has_every_name_that_running_an_engine_takes(tensorrt_10):
    trt = tensorrt_10
    model = used(runtime.Model, "self._runtime", "trt")
    engine = used(calls.Named, "engine") | used(runtime.Model, "self._engine")
    context = used(calls.Named, "context", "self._context")

    assert len(engine) >= 6
    assert len(context) >= 4
    assert engine - set(dir(trt.ICudaEngine)) == set()
    assert context - set(dir(trt.IExecutionContext)) == set()
    assert model - set(dir(trt)) - set(dir(trt.Runtime)) == set()
    assert trt.TensorIOMode.INPUT.name == "INPUT"
    assert trt.Logger.WARNING is not None


@pytest.mark.lab
def test_tensorrt_10_has_the_names_of_building_that_come_with_the_runtime(tensorrt_10):
    trt = tensorrt_10

    assert used(runtime, "profile") - set(dir(trt.IOptimizationProfile)) == set()
    assert hasattr(trt.ITimingCache, "serialize")
    assert hasattr(trt.MemoryPoolType, "WORKSPACE")
    assert hasattr(trt.BuilderFlag, "FP16")
    assert set(calls._DTYPES) <= set(trt.DataType.__members__)


@pytest.mark.parametrize("variable", ["builder", "config", "network", "parser", "profile", "tensor", "trt"])
def test_tensorrt_8_2_has_every_name_that_building_takes(variable):
    wanted = used(runtime, variable)

    assert wanted
    assert wanted - set(TENSORRT_8_2[variable].split()) == SINCE_8_4.get(variable, set()) & wanted


def test_tensorrt_8_2_has_every_name_that_running_by_number_takes():
    engine = used(calls.Numbered, "engine")
    context = used(calls.Numbered, "context", "self._context")

    assert len(engine) >= 4
    assert len(context) >= 3
    assert engine - set(TENSORRT_8_2["engine"].split()) == set()
    assert context - set(TENSORRT_8_2["context"].split()) == set()


# ---------------------------------------------------------------- the stand-in, held against the same lists


def own_names(cls):
    return {name for name in vars(cls) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("cls", "real"),
    [
        (stand_in.NumberedEngine, "engine"),
        (stand_in.NumberedContext, "context"),
        (stand_in.Builder, "builder"),
        (stand_in.OnnxParser, "parser"),
        (stand_in.Profile, "profile"),
    ],
)
def test_the_stand_in_has_no_name_that_tensorrt_8_2_lacks(cls, real):
    assert own_names(cls)
    assert own_names(cls) - set(TENSORRT_8_2[real].split()) == set()


@pytest.mark.lab
def test_the_stand_in_has_no_name_that_tensorrt_10_lacks(tensorrt_10):
    assert own_names(stand_in.NamedEngine) - set(dir(tensorrt_10.ICudaEngine)) == set()
    assert own_names(stand_in.NamedContext) - set(dir(tensorrt_10.IExecutionContext)) == set()
    assert own_names(stand_in.Profile) - set(dir(tensorrt_10.IOptimizationProfile)) == set()


# ---------------------------------------------------------------- building, by version


@pytest.mark.parametrize(
    ("flags", "builder", "fp16", "precision", "set_"),
    [
        ({"FP16": "fp16"}, {"platform_has_fast_fp16": True}, True, "fp16", ["fp16"]),
        ({"FP16": "fp16"}, {"platform_has_fast_fp16": True}, False, "fp32", []),
        ({"FP16": "fp16"}, {"platform_has_fast_fp16": False}, True, "fp32", []),
        ({"FP16": "fp16"}, {}, True, "fp16", ["fp16"]),
    ],
)
def test_half_precision_is_used_where_it_is_asked_for_and_fast(flags, builder, fp16, precision, set_):
    done = []
    trt = SimpleNamespace(BuilderFlag=SimpleNamespace(**flags), __version__="10.3.0")
    config = SimpleNamespace(set_flag=done.append)

    assert runtime.choose_precision(trt, SimpleNamespace(**builder), config, None, fp16) == precision
    assert done == set_


FLAGS = SimpleNamespace(FP16="fp16", INT8="int8")
TRT_8 = SimpleNamespace(BuilderFlag=FLAGS, __version__="8.2.1.8")


@pytest.mark.parametrize("asked", ["fp16", "int8"])
@pytest.mark.parametrize("fp16", [False, True])
def test_what_a_file_asks_for_beats_the_option(asked, fp16):
    done = []
    builder = SimpleNamespace(platform_has_fast_fp16=True, platform_has_fast_int8=True)

    assert runtime.choose_precision(TRT_8, builder, SimpleNamespace(set_flag=done.append), asked, fp16) == asked
    assert done == [asked]


@pytest.mark.parametrize("asked", ["fp16", "int8"])
def test_a_file_that_asks_for_what_the_gpu_has_not_is_refused_rather_than_built_otherwise(asked):
    builder = SimpleNamespace(platform_has_fast_fp16=False, platform_has_fast_int8=False)

    with pytest.raises(ValueError, match=f"this GPU has no fast {asked.upper()}"):
        runtime.choose_precision(TRT_8, builder, SimpleNamespace(), asked, False)


def test_from_11_on_the_pairs_in_a_file_alone_make_it_int8():
    trt = SimpleNamespace(BuilderFlag=SimpleNamespace(), __version__="11.0.0")

    assert runtime.choose_precision(trt, SimpleNamespace(), SimpleNamespace(), "int8", False) == "int8"


@pytest.mark.parametrize(
    ("told", "asked"),
    [({}, None), ({"operators": ["Conv", "QuantizeLinear", "DequantizeLinear"]}, "int8"),
     ({"metadata": {"author": "me", "pipeline.precision": "fp16"}}, "fp16")],
)  # fmt: skip
def test_a_file_says_itself_in_which_precision_its_engine_computes(tmp_path, told, asked):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file({}, **told))

    assert runtime.asked_precision(str(path)) == asked


def test_a_precision_that_no_engine_is_built_in_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file({}, metadata={"pipeline.precision": "fp8"}))

    with pytest.raises(ValueError, match=r"asks for pipeline\.precision 'fp8'; expected is fp16"):
        runtime.asked_precision(str(path))


def test_tensorrt_11_which_has_no_such_option_says_so():
    trt = SimpleNamespace(BuilderFlag=SimpleNamespace(), __version__="11.0.0")

    with pytest.raises(ValueError, match=r"TensorRT 11\.0\.0 has no fp16 option"):
        runtime.choose_precision(trt, SimpleNamespace(), SimpleNamespace(), None, True)


class Times(bytes):
    """A timing cache."""

    def serialize(self):
        return bytes(self)


class Config:
    """A builder's configuration, which takes only the timing caches of its own version."""

    times = None

    def create_timing_cache(self, serialized):
        return None if serialized == b"garbage" else Times(serialized)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if cache.startswith(b"old"):
            return False
        self.times = cache
        return True

    def get_timing_cache(self):
        return self.times

    def build(self):
        self.times = Times(self.times + b"|conv 3x3: 1.2 ms")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, b"|conv 3x3: 1.2 ms"),
        (b"|add: 0.1 ms", b"|add: 0.1 ms|conv 3x3: 1.2 ms"),
        (b"garbage", b"|conv 3x3: 1.2 ms"),
        (b"old version's", b"|conv 3x3: 1.2 ms"),
    ],
)
def test_the_layers_times_are_kept_from_build_to_build(tmp_path, before, after):
    path, config = tmp_path / "some.timings", Config()
    if before is not None:
        path.write_bytes(before)

    with runtime.timing_cache(config, str(path)):
        config.build()

    assert path.read_bytes() == after
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_build_that_failed_leaves_the_times_as_they_were(tmp_path):
    path = tmp_path / "some.timings"
    path.write_bytes(b"|add: 0.1 ms")

    with pytest.raises(MemoryError), runtime.timing_cache(Config(), str(path)):
        raise MemoryError

    assert path.read_bytes() == b"|add: 0.1 ms"


RECIPE = {"fp16": True, "workspace_mb": 256, "tensorrt": "8.2.1.8", "gpu": "NVIDIA Tegra X1 sm_53", "power_mode": "0"}


def test_times_hold_for_any_model_and_option_but_for_one_gpu_version_and_power_mode():
    path = runtime.timing_path("/files/a.onnx", RECIPE)

    assert path == runtime.timing_path("/files/b.onnx", dict(RECIPE, fp16=False, workspace_mb=64))
    for name, other in (("gpu", "Orin sm_87"), ("tensorrt", "8.0.1.6"), ("power_mode", "1")):
        assert path != runtime.timing_path("/files/a.onnx", dict(RECIPE, **{name: other}))


# ---------------------------------------------------------------- the board


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("pmode:0000\n", "0"),
        ("pmode:0001 fmode:quiet\n", "1"),
        ("pmode:0010", "10"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_power_mode_is_read_from_nvpmodel_s_own_file(tmp_path, monkeypatch, text, mode):
    monkeypatch.setenv("PATH", str(tmp_path))
    status = tmp_path / "var/lib/nvpmodel/status"
    status.parent.mkdir(parents=True)
    if text is not None:
        status.write_text(text)

    assert runtime.power_mode(str(tmp_path)) == mode


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"int8": True}, "unknown runtime option 'int8'; known: fp16, workspace_mb"),
        ({"fp16": "yes"}, "runtime option fp16 is 'yes', expected something like False"),
        ({"workspace_mb": 0}, "workspace_mb is 0, expected at least 1"),
    ],
)
def test_an_option_that_it_does_not_have_is_told_from_those_it_has(options, words):
    with pytest.raises(ValueError, match=words):
        runtime.recipe(options)


# ---------------------------------------------------------------- the agent, with TensorRT and without a GPU


@pytest.fixture
def board(tmp_path, archive):
    """An agent that finds TensorRT 10, under its own name, as on a board with JetPack."""
    folder = tmp_path / "site"
    (folder / "tensorrt").mkdir(parents=True)
    (folder / "tensorrt" / "__init__.py").write_text(
        "from tensorrt_lean_bindings import *\nfrom tensorrt_lean_bindings import __version__\n"
    )
    (folder / "tensorrt-10.16.1.11.dist-info").mkdir()
    agent = Agent([sys.executable, str(archive), "--dir", str(tmp_path)], {"PYTHONPATH": str(folder)})
    yield agent
    agent.close()


@pytest.mark.lab
def test_hello_names_tensorrt_without_importing_it(tensorrt_10, board):
    assert board.result("hello")["runtimes"]["tensorrt"] == tensorrt_10.__version__


@pytest.mark.lab
def test_without_a_driver_the_request_is_refused_in_cuda_s_words(tensorrt_10, board, put):
    error = board.error("measure", candidate=put(b"onnx", "onnx"), runtime="tensorrt")

    assert error["kind"] == protocol.BAD_REQUEST
    assert "runtime tensorrt cannot be used: CudaError: cudaGetDeviceCount: CUDA driver version" in error["message"]


def test_without_tensorrt_the_request_is_refused_before_anything_is_built(start, put):
    if runtime.installed() is not None:
        pytest.skip("TensorRT is installed here")
    error = start().error("measure", candidate=put(b"onnx", "onnx"), runtime="tensorrt")

    assert error["kind"] == protocol.BAD_REQUEST
    assert "runtime tensorrt is not installed for this python: a Jetson has it from JetPack" in error["message"]
