import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agents.runtimes import onnxruntime as runtime

ONE_THREAD = {"threads": 1, "affinity": None, "spinning": None, "build_timeout_s": 1.0}


@pytest.fixture
def model(tmp_path):
    """Write y = 2x for inputs of a shape and type; return the path."""

    def model(shape, kind=TensorProto.FLOAT, factor=2):
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        two = numpy_helper.from_array(numpy.array(factor, dtype=dtype), "two")
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "two"], ["y"])],
            "double",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", kind, shape)],
            [two],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        return str(path)

    return model


def test_the_version_is_known_without_and_with_the_import():
    assert runtime.installed() == runtime.version()


def test_it_runs_one_prepared_input(model):
    loaded = runtime.load(model([1, 3, 4, 4]), ONE_THREAD, seed=0)
    loaded.step()

    assert loaded.inputs == [("x", [1, 3, 4, 4], "float32")]
    assert loaded.batch == 1
    assert loaded.finite()


def test_unknown_lengths_count_as_one_and_any_batch_will_do(model):
    loaded = runtime.load(model(["batch", 3, None]), {"threads": 2}, seed=0)
    loaded.step()

    assert loaded.inputs == [("x", [1, 3, 1], "float32")]
    assert loaded.batch is None


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32])
def test_other_types_are_fed_in_their_own(model, kind):
    runtime.load(model([1, 2], kind), ONE_THREAD, seed=0).step()


def test_outputs_are_the_network_s_answers_as_float32(model):
    loaded = runtime.load(model(["n", 2], TensorProto.DOUBLE), ONE_THREAD, seed=0)
    images = numpy.arange(6, dtype="<f4").reshape(3, 2)

    raw = loaded.outputs(images.tobytes(), (3, 2))

    assert (numpy.frombuffer(raw, "<f4").reshape(3, 2) == images * 2).all()


def test_answers_that_are_not_finite_are_noticed(model):
    assert not runtime.load(model([1, 2], factor=numpy.inf), ONE_THREAD, seed=0).finite()


def test_a_type_that_cannot_be_fed_is_named(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "text",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)

    with pytest.raises(TypeError, match=r"input 'x' is a tensor\(string\)"):
        runtime.load(str(path), ONE_THREAD, seed=0)


def test_it_runs_as_a_session_does_by_default_and_says_so(model):
    plain = onnxruntime.SessionOptions()
    about = runtime.load(model([1, 2]), ONE_THREAD, seed=0).about

    assert about == {"graph_optimization": "all", "execution_mode": "sequential", "spinning": True}
    assert plain.graph_optimization_level.name == "ORT_ENABLE_ALL"
    assert plain.execution_mode.name == "ORT_SEQUENTIAL"


@pytest.mark.parametrize("spinning", [True, False])
def test_spinning_is_what_the_session_was_told(model, spinning):
    assert runtime.load(model([1, 2]), dict(ONE_THREAD, spinning=spinning), seed=0).about["spinning"] is spinning


@pytest.mark.parametrize("level", ["all", "extended", "basic", "disable"])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_its_own_options_reach_the_session(model, level, mode):
    options = dict(ONE_THREAD, threads=2, graph_optimization=level, execution_mode=mode)
    loaded = runtime.load(model([1, 2]), options, seed=0)
    loaded.step()

    assert (loaded.about["graph_optimization"], loaded.about["execution_mode"]) == (level, mode)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fp16": True}, r"unknown runtime option 'fp16'; known: execution_mode, graph_optimization"),
        ({"graph_optimization": "most"}, r"'most', expected one of all, basic, disable, extended"),
        ({"execution_mode": True}, r"runtime option execution_mode is True, expected something like 'sequential'"),
    ],
)
def test_an_option_that_it_does_not_have_is_told_from_those_it_has(model, options, words):
    with pytest.raises(ValueError, match=words):
        runtime.load(model([1, 2]), dict(ONE_THREAD, **options), seed=0)


@pytest.fixture
def pair(tmp_path):
    """Write p = 2a and q = the sum of a and b, of two inputs; return the path."""
    nodes = [
        helper.make_node("Add", ["a", "a"], ["p"]),
        helper.make_node("Add", ["a", "b"], ["q"]),
    ]
    shapes = {"a": ["n", 2], "b": ["n", 1], "p": ["n", 2], "q": ["n", 2]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(nodes, "pair", [values["a"], values["b"]], [values["p"], values["q"]])
    path = tmp_path / "pair.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def test_of_several_inputs_and_outputs_each_image_is_a_row(pair):
    loaded = runtime.load(pair, ONE_THREAD, seed=0)
    rows = numpy.array([[1, 2, 10], [3, 4, 20]], "<f4")

    raw = loaded.outputs(rows.tobytes(), (2, 3))

    assert numpy.frombuffer(raw, "<f4").reshape(2, 4).tolist() == [[2, 4, 11, 12], [6, 8, 23, 24]]


def test_rows_of_another_length_than_the_inputs_are_refused(pair):
    loaded = runtime.load(pair, ONE_THREAD, seed=0)
    with pytest.raises(ValueError, match="4 values for an image, the model takes 3"):
        loaded.outputs(numpy.zeros((2, 4), "<f4").tobytes(), (2, 4))
