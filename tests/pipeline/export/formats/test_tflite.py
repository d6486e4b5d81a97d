from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.devices.agent_client import open_agent
from pipeline.errors import ConverterError, ModelError
from pipeline.export.format_plugin import require_usable
from pipeline.export.formats.tflite import TFLite, template_of
from pipeline.export.tflite.flatbuffer import new_buffer, read, write
from pipeline.pruning.surgery.weight_sparsity import set_to_zero, weights
from pipeline.records import Device, MeasureSettings
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny


@pytest.fixture(scope="module")
def format() -> TFLite:
    """Made ready from the stored file; its converter is a Python that has none."""
    return TFLite(Path(sys.executable), template_of(CONVERTED.read_bytes(), tiny(), IMAGES), IMAGES)


def test_a_file_answers_as_its_network(format: TFLite) -> None:
    network = tiny(seed=4)
    data = format.file(network)
    expected = network(IMAGES).detach().numpy()
    assert abs(format.answers(data, IMAGES.numpy()) - expected).max() < 1e-4 * max(1, abs(expected).max())
    weightless = format.skeleton(network)
    assert len(weightless.data) < 0.1 * len(data)
    assert weightless.size_bytes == len(data)


def test_single_zeros_stay_where_they_are(format: TFLite) -> None:
    network = tiny(seed=4)
    set_to_zero(network, dict.fromkeys(weights(network), 0.5))
    data = format.file(network)
    assert sum(zeros(data)) >= sum(int((w == 0).sum()) for w in weights(network).values())
    expected = network(IMAGES).detach().numpy()
    assert abs(format.answers(data, IMAGES.numpy()) - expected).max() < 1e-4 * max(1, abs(expected).max())


def zeros(data: bytes) -> list[int]:
    """How many float values of each buffer are zero."""
    filled = (buffer.data for buffer in read(data).buffers if buffer.data is not None and len(buffer.data) % 4 == 0)
    return [int((np.asarray(values, np.uint8).view(np.float32) == 0).sum()) for values in filled]


def test_a_converted_file_that_answers_otherwise_is_no_template(caplog: pytest.LogCaptureFixture) -> None:
    """As if the converter had exchanged two constants: what is rewritten is compared before it is trusted."""
    model = read(CONVERTED.read_bytes())
    graph = model.subgraphs[0]
    addition = next(o for o in graph.operators if o.builtinOptions is not None and len(o.inputs) == 2
                    and getattr(o.builtinOptions, "fusedActivationFunction", 0) == 1)  # fmt: skip
    addition.builtinOptions.fusedActivationFunction = 0
    assert template_of(write(model), tiny(), IMAGES) is None
    assert "each candidate will be converted in full" in caplog.text


def test_a_file_with_foreign_constants_is_no_template(caplog: pytest.LogCaptureFixture) -> None:
    model = read(CONVERTED.read_bytes())
    largest = max(
        range(len(model.buffers)), key=lambda i: 0 if model.buffers[i].data is None else len(model.buffers[i].data)
    )
    model.buffers[largest] = new_buffer(np.zeros_like(model.buffers[largest].data))
    assert template_of(write(model), tiny(), IMAGES) is None
    assert "is no weight of the network" in caplog.text


def test_where_neither_rewriting_nor_converting_works_the_candidate_fails() -> None:
    with pytest.raises(ConverterError, match="has no litert-torch"):
        TFLite(Path(sys.executable), None, IMAGES).file(tiny())


def test_a_device_measures_the_probe_beside_the_file_and_answers_as_the_host(format: TFLite, tmp_path: Path) -> None:
    data = format.file(tiny(seed=4))
    short = MeasureSettings(warmup_s=0.02, min_s=0.1, max_s=0.4, block_s=0.01, timeout_s=30.0)
    device = Device(
        name="board", kind="local", agent_dir=str(tmp_path / "agent"), runtime="tflite", format="tflite", measure=short
    )
    with open_agent(device) as agent:
        measured = agent.measure(format.skeleton(tiny(seed=4)).data, "skeleton", reference=(data, "tflite"))
        there = agent.verify(data, IMAGES.numpy(), "tflite")
    assert measured.runtime.startswith("tflite ")
    assert measured.ratio is not None
    assert np.allclose(there, format.answers(data, IMAGES.numpy()), atol=1e-5)


def test_a_users_file_is_looked_at(tmp_path: Path) -> None:
    require_usable("tflite", CONVERTED.read_bytes(), None, shown="a.tflite")
    with pytest.raises(ModelError, match=r"a\.tflite is not a valid TFLite file: its bytes 4 to 8"):
        require_usable("tflite", b"no model", None, shown="a.tflite")
