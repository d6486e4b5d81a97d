"""With the interpreter that is installed; the network is the small one that the export's tests keep."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from device_agents.runtimes import tflite as runtime
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny

REPOSITORY = Path(__file__).parents[3]
OPTIONS = {"threads": 1}


def test_the_version_is_known_without_and_with_the_import():
    assert runtime.installed() == runtime.version()
    assert runtime.installed().endswith(" (ai-edge-litert)")


def test_the_version_is_known_without_importing_the_library():
    code = (
        "import sys; from device_agents.runtimes import tflite; assert tflite.installed();"
        "assert not {'ai_edge_litert', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_runs_one_prepared_input(threads):
    loaded = runtime.load(str(CONVERTED), {"threads": threads}, seed=0)
    loaded.step()

    assert [(shape, dtype) for _, shape, dtype in loaded.inputs] == [([1, 3, 16, 16], "float32")]
    assert loaded.batch == 1
    assert loaded.finite()


@pytest.mark.parametrize("xnnpack", [True, False])
def test_outputs_are_the_network_s_answers_with_either_kernels(xnnpack):
    loaded = runtime.load(str(CONVERTED), dict(OPTIONS, xnnpack=xnnpack), seed=0)
    image = IMAGES[:1].numpy()

    raw = loaded.outputs(image.astype("<f4").tobytes(), image.shape)

    with torch.no_grad():
        assert numpy.allclose(numpy.frombuffer(raw, "<f4"), tiny()(IMAGES[:1]).numpy()[0], atol=1e-4)
    assert loaded.about == {"xnnpack": xnnpack}


def test_infinite_answers_are_noticed(tmp_path):
    from pipeline.export.tflite import flatbuffer

    model = flatbuffer.read(CONVERTED.read_bytes())
    last = model.subgraphs[0].operators[-1]
    bias = model.subgraphs[0].tensors[last.inputs[2]]
    model.buffers[bias.buffer] = flatbuffer.new_buffer(numpy.full(5, numpy.inf, numpy.float32))
    path = tmp_path / "infinite.tflite"
    path.write_bytes(flatbuffer.write(model))

    assert not runtime.load(str(path), OPTIONS, seed=0).finite()


def test_the_same_seed_prepares_the_same_input():
    one, same, other = (runtime.load(str(CONVERTED), OPTIONS, seed=s)._interpreter for s in (1, 1, 2))
    place = one.get_input_details()[0]["index"]
    assert (one.get_tensor(place) == same.get_tensor(place)).all()
    assert (one.get_tensor(place) != other.get_tensor(place)).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 1, "spinning": False}, "no switch for spinning"),
        ({"threads": 1, "fp16": True}, "unknown runtime option 'fp16'; known: xnnpack"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        runtime.load(str(CONVERTED), options, seed=0)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "nothing.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"not a valid Flatbuffer|identifier"):
        runtime.load(str(path), OPTIONS, seed=0)


# ---------------------------------------------------------------- which library


def in_a_python_with(folder, *, numpy, **packages):
    """Import the runtime where only these packages are to be found; return what it says and what it fails with."""
    for name, distribution in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
        (folder / name / "interpreter.py").write_text("")
        (folder / f"{distribution}.dist-info").mkdir()
    (folder / "numpy.py").write_text(f"__version__ = {numpy!r}")
    code = "from device_agents.runtimes import tflite as t; print(t.installed()); print(t.version())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=REPOSITORY, env={"PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split("\n"), done.stderr


def test_the_older_library_is_taken_where_the_newer_is_missing(tmp_path):
    out, _ = in_a_python_with(tmp_path, numpy="1.26.4", tflite_runtime="tflite_runtime-2.14.0")
    assert out[:2] == ["2.14.0 (tflite-runtime)"] * 2


def test_the_newer_library_goes_before_the_older(tmp_path):
    there = {"tflite_runtime": "tflite_runtime-2.14.0", "ai_edge_litert": "ai_edge_litert-2.1.0"}
    out, _ = in_a_python_with(tmp_path, numpy="2.1.0", **there)
    assert out[:2] == ["2.1.0 (ai-edge-litert)"] * 2


def test_the_older_library_beside_a_newer_numpy_is_explained(tmp_path):
    _, err = in_a_python_with(tmp_path, numpy="2.1.0", tflite_runtime="tflite_runtime-2.14.0")
    assert "tflite-runtime does not work with numpy 2.1.0: python3 -m pip install 'numpy<2', or ai-edge-litert" in err


def test_without_either_library_what_to_install_is_told(tmp_path):
    out, err = in_a_python_with(tmp_path, numpy="2.1.0")
    assert out[0] == "None"
    assert "neither ai-edge-litert nor tflite-runtime is installed: python3 -m pip install ai-edge-litert" in err
