"""The whole way of a model through the real agent, on a GPU and a TensorRT that are stand-ins for NVIDIA's.

What this shows is the agent's part: who waits for what, what lies where, which call comes first in which version. What
NVIDIA's part does, only a board can show.
"""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from device_agents import cudart, protocol
from tests.device_agents.harness import Agent
from tests.device_agents.runtimes.virtual_gpu.onnx_file import onnx_file

HERE = Path(__file__).parent / "virtual_gpu"
QUICK = {"warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5, "timeout_s": 30}
TENSORRT = {"runtime": "tensorrt", "build_timeout_s": 30}

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The folder of the virtual GPU's libcudart."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: apt-get install gcc")
    folder = tmp_path_factory.mktemp("cuda")
    source = [str(HERE / "cudart.c"), "-o", str(folder / "libcudart.so.13")]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", *source], check=True)
    return folder


NANO, LAST_BY_NUMBER, BY_NAME = VERSIONS = ("8.2.1.8", "8.4.3.1", "10.3.0")
"""A Jetson Nano's TensorRT, the last that takes tensors by number alone, and one that takes them by name alone."""


def on(version):
    """Run a test under one version: what it shows is the agent's alone, whatever TensorRT it speaks to."""
    return pytest.mark.parametrize("board", [version], indirect=True)


@pytest.fixture(params=VERSIONS)
def board(request, tmp_path, compiled, library):
    """An agent on a board with TensorRT."""
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(HERE / "stand_in.py", site / "tensorrt.py")
    (site / f"tensorrt-{request.param}.dist-info").mkdir()
    environment = {
        "PYTHONPATH": str(site), "LD_LIBRARY_PATH": str(library), "VIRTUAL_TENSORRT": request.param, "PATH": "/usr/bin"
    }  # fmt: skip
    agent = Agent([sys.executable, str(compiled(sys.executable)), "--dir", str(tmp_path)], environment)
    agent.tensorrt = request.param
    yield agent
    assert agent.close() == 0


@pytest.fixture
def model(put):
    def model(operators=(), metadata=None, **told):
        file = onnx_file({"factor": 2.0, "shape": [1, 3], **told}, operators=operators, metadata=metadata)
        return put(file, "onnx")

    return model


@pytest.fixture
def images(put):
    """Return the name of a file of images, and them."""
    values = numpy.arange(12, dtype="<f4").reshape(4, 3)
    file = io.BytesIO()
    numpy.save(file, values)
    return put(file.getvalue(), "npy"), values


def test_a_library_that_sees_a_gpu_is_taken_before_a_newer_one_that_sees_none(library, tmp_path):
    real = [path for path in cudart.candidates() if path.endswith("cuda_runtime/lib/libcudart.so.12")]
    if not real:
        pytest.skip("nvidia-cuda-runtime-cu12 is not installed: it is for x86-64 Linux")
    shutil.copy(real[0], tmp_path / "libcudart.so.12")
    shutil.copy(library / "libcudart.so.13", tmp_path / "libcudart.so.11.0")

    program = "from device_agents import cudart; print(cudart.Cuda().version())"
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(cudart.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "10.2\n"  # the virtual one


def test_hello_names_its_version(board):
    assert board.result("hello")["runtimes"]["tensorrt"] == board.tensorrt


def test_a_candidate_is_measured_beside_its_reference_and_says_what_it_ran_with(board, model):
    result = board.result(
        "measure", candidate=model(), reference=model(factor=3.0), options={"fp16": True}, **TENSORRT, **QUICK
    )

    assert result["runtime"] == f"tensorrt {board.tensorrt}"
    assert result["candidate"]["input"] == {"name": "x", "shape": [1, 3], "dtype": "float32"}
    assert result["candidate"]["blocks"]
    assert result["reference"]["blocks"]
    assert result["conditions"] == {
        "affinity": None, "spinning": None, "precision": "fp16", "workspace_mb": 256, "copies": "included",
        "tensorrt": board.tensorrt, "gpu": "Virtual GPU sm_53", "power_mode": "unknown",
    }  # fmt: skip


def built(folder):
    """Return what TensorRT was told of each engine in the agent's folder."""
    return [json.loads(path.read_bytes().partition(b"\n")[2]) for path in (folder / "files").glob("*.engine")]


@on(NANO)
def test_a_candidate_in_half_precision_is_measured_beside_a_reference_in_single(board, model, tmp_path):
    half = model(metadata={"pipeline.precision": "fp16"})
    result = board.result("measure", candidate=half, reference=model(factor=3.0), **TENSORRT, **QUICK)

    assert result["conditions"]["precision"] == "fp16"
    assert {engine["factor"]: engine["flags"] for engine in built(tmp_path)} == {2.0: ["FP16"], 3.0: []}


@on(BY_NAME)
def test_a_quantized_file_is_refused_where_the_gpu_has_no_int8(board, model):
    error = board.error("measure", candidate=model(operators=["QuantizeLinear"]), **TENSORRT, **QUICK)

    assert error["kind"] == protocol.REFUSED
    assert "this GPU has no fast INT8 (TensorRT's platform_has_fast_int8): build the float32 file" in error["message"]


@on(BY_NAME)
def test_an_engine_that_was_built_serves_again(board, model, tmp_path):
    for _ in range(2):
        board.result("measure", candidate=model(), reference=model(), **TENSORRT, **QUICK)

    assert len(built(tmp_path)) == 1
    (times,) = (tmp_path / "files").glob("*.timings")
    assert times.read_bytes() == b"t"  # one build


@pytest.mark.parametrize("shape", [[1, 3], [-1, 3]])
def test_images_go_to_the_gpu_and_their_answers_come_back(board, model, images, shape):
    name, values = images
    result = board.result("verify", candidate=model(shape=shape), inputs=name, **TENSORRT)

    answers = numpy.frombuffer(base64.b64decode(result["outputs"]), "<f4").reshape(result["shape"])
    assert (answers == 2 * values).all()


@on(NANO)
def test_waiting_asleep_is_set_before_the_gpu_is_used_and_recorded(board, model):
    result = board.result(
        "measure", candidate=model(), reference=model(factor=3.0), spinning=False, **TENSORRT, **QUICK
    )

    assert result["conditions"]["spinning"] is False


def test_a_builder_that_ran_out_of_memory_gets_half_the_workspace(board, model):
    result = board.result("measure", candidate=model(needs_mb=128), **TENSORRT, **QUICK)

    assert result["conditions"]["workspace_mb"] == 128


@on(LAST_BY_NUMBER)
def test_a_model_that_never_fits_is_refused_with_what_was_tried(board, model):
    error = board.error("measure", candidate=model(needs_mb=1), **TENSORRT, **QUICK)

    assert error["kind"] == protocol.REFUSED
    assert "with 256 MB of workspace: MemoryError: TensorRT's builder gave no engine" in error["message"]
    assert "with 128 MB of workspace: MemoryError" in error["message"]
    assert "Cuda Runtime (out of memory)" in error["message"]


@on(NANO)
def test_every_complaint_of_the_parser_is_told(board, model):
    errors = ["In node 3 (importModel): UNSUPPORTED_NODE: no importer for Mish", "In node 9 (parseGraph): INVALID_NODE"]
    error = board.error("measure", candidate=model(errors=errors), **TENSORRT, **QUICK)

    assert error["kind"] == protocol.REFUSED
    assert f"TensorRT {board.tensorrt} cannot read the file: {'; '.join(errors)}" in error["message"]


@on(LAST_BY_NUMBER)
def test_answers_that_are_not_finite_are_noticed(board, model):
    error = board.error("measure", candidate=model(factor=1e39), **TENSORRT, **QUICK)

    assert (error["kind"], error["message"]) == (protocol.INVALID, "the candidate's outputs are not finite numbers")


def test_a_run_that_tensorrt_calls_failed_is_refused(board, model):
    error = board.error("measure", candidate=model(fails=True), **TENSORRT, **QUICK)

    assert error["kind"] == protocol.REFUSED
    assert "TensorRT: execute_async_v" in error["message"]


@on(BY_NAME)
def test_a_type_that_cannot_be_fed_is_named(board, model):
    error = board.error("measure", candidate=model(dtype="FP8"), **TENSORRT, **QUICK)

    assert "a tensor of FP8; this agent feeds BOOL, FLOAT, HALF" in error["message"]


def test_the_layers_times_are_kept_beside_the_engines(board, model, tmp_path):
    for number in range(3):
        board.result("measure", candidate=model(factor=1.0 + number), **TENSORRT, **QUICK)

    (times,) = (tmp_path / "files").glob("*.timings")
    assert times.read_bytes() == b"ttt"
    assert len(list((tmp_path / "files").glob("*.engine"))) == 3
