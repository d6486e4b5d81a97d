from __future__ import annotations

import io

import numpy as np
import pytest
from torch import fx

from device_agents.skeleton import expand, parse
from pipeline.export.constants import constants
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.interpreter import answers
from pipeline.export.tflite.rewrite import rewrite
from pipeline.export.tflite.skeleton import skeleton
from pipeline.export.tflite.template import Template
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny


@pytest.fixture
def file(template: Template, network: fx.GraphModule) -> bytes:
    return rewrite(template, constants(network))


def expanded(weightless: bytes, seed: int = 0) -> bytes:
    whole = io.BytesIO()
    expand(parse(weightless), whole, seed)
    return whole.getvalue()


def structure(data: bytes) -> list[tuple[object, ...]]:
    model = flatbuffer.read(data)
    graph = model.subgraphs[0]
    shapes = [flatbuffer.shape(tensor) for tensor in graph.tensors]
    return [
        (flatbuffer.kind(model, o), [shapes[i] for i in o.inputs if i >= 0], [shapes[i] for i in o.outputs])
        for o in graph.operators
    ]


def test_a_probe_is_a_small_part_of_the_file(file: bytes) -> None:
    assert len(skeleton(file)) < 0.1 * len(file)


def test_the_expanded_probe_is_the_same_network_with_other_weights(file: bytes) -> None:
    whole = expanded(skeleton(file))
    assert structure(whole) == structure(file)
    found = answers(whole, IMAGES.numpy())
    assert np.isfinite(found).all()
    assert not np.allclose(found, answers(file, IMAGES.numpy()))


def test_expanded_values_are_neither_zero_nor_denormal_nor_huge(file: bytes) -> None:
    model = flatbuffer.read(expanded(skeleton(file)))
    weights = [flatbuffer.constant(model, t) for t in model.subgraphs[0].tensors]
    filled = [w for w in weights if w is not None and w.dtype == np.float32 and w.nbytes >= 64]
    assert len(filled) > 8
    for values in filled:
        assert (np.abs(values) > 1e-30).all()
        assert np.abs(values).max() < 10


def test_filters_get_the_deviation_of_their_fan_in(file: bytes) -> None:
    stds = {fill.nbytes: fill.std for fill in parse(skeleton(file)).fills}
    assert stds[8 * 27 * 4] == pytest.approx((2 / 27) ** 0.5, abs=1e-4)  # the stem: 3 x 3 over 3 channels
    assert stds[16 * 9 * 4] == pytest.approx((2 / 9) ** 0.5, abs=1e-4)  # depthwise: 3 x 3 over its own


def test_the_same_structure_gives_the_same_bytes_whatever_the_weights(template: Template) -> None:
    skeletons = [parse(skeleton(rewrite(template, constants(tiny(seed))))) for seed in (1, 2)]
    assert skeletons[0].size == skeletons[1].size
    assert skeletons[0].fills == skeletons[1].fills


def test_the_converters_own_files_can_be_left_without_weights_too() -> None:
    data = CONVERTED.read_bytes()
    assert structure(expanded(skeleton(data))) == structure(data)
