from __future__ import annotations

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import fx, nn

from pipeline.export.constants import constants
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.interpreter import answers
from pipeline.export.tflite.rewrite import rewrite
from pipeline.export.tflite.template import Template, study
from pipeline.export.verify_outputs import difference
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.records import SearchSpace
from tests.pipeline.export.tflite import signals
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny
from tests.pipeline.pruning.networks import in_order

EQUAL = 1e-5


def kinds(data: bytes) -> list[str]:
    model = flatbuffer.read(data)
    return [flatbuffer.kind(model, operator) for operator in model.subgraphs[0].operators]


def cut(network: fx.GraphModule, space: SearchSpace, **levels: int) -> fx.GraphModule:
    """Cut the groups whose names begin so; legal levels only."""
    told = tuple(
        next((level for name, level in levels.items() if g.name.startswith(name) and level in g.kept), 0)
        for g in space.groups
    )
    assert any(told), [g.name for g in space.groups]
    return prune(network, space, told, in_order(space), IMAGES)


def test_another_networks_weights_make_another_networks_answers(template: Template, network: fx.GraphModule) -> None:
    data = rewrite(template, constants(network))
    assert difference(network, IMAGES, answers(data, IMAGES.numpy())) < EQUAL
    assert difference(tiny(), IMAGES, answers(data, IMAGES.numpy())) > 0.1


@pytest.mark.parametrize("level", [25, 50, 75, 100])
def test_every_level_gives_what_the_cut_network_answers(
    template: Template, network: fx.GraphModule, space: SearchSpace, level: int
) -> None:
    levels = tuple(level if level in g.kept else 0 for g in space.groups)
    pruned = prune(network, space, levels, in_order(space), IMAGES)
    data = rewrite(template, constants(pruned))
    assert difference(pruned, IMAGES, answers(data, IMAGES.numpy())) < EQUAL
    assert len(data) < len(rewrite(template, constants(network)))


def test_each_group_can_be_cut_alone(template: Template, network: fx.GraphModule, space: SearchSpace) -> None:
    assert len(space.groups) == 5
    for i, group in enumerate(space.groups):
        levels = tuple(group.levels[-1] if i == j else 0 for j in range(len(space.groups)))
        pruned = prune(network, space, levels, in_order(space), IMAGES)
        data = rewrite(template, constants(pruned))
        assert difference(pruned, IMAGES, answers(data, IMAGES.numpy())) < EQUAL, group.name


def test_a_padded_shortcut_adds_as_many_channels_of_zeros_as_are_left(
    template: Template, network: fx.GraphModule, space: SearchSpace
) -> None:
    outer = next(group.name for group in space.groups if group.name == "wider.3")
    levels = tuple(50 if group.name == outer else 0 for group in space.groups)
    pruned = prune(network, space, levels, in_order(space), IMAGES)
    data = rewrite(template, constants(pruned))
    assert difference(pruned, IMAGES, answers(data, IMAGES.numpy())) < EQUAL


def test_the_activation_behind_a_removed_addition_stays(
    template: Template, network: fx.GraphModule, space: SearchSpace
) -> None:
    pruned = cut(network, space, same=100)
    data = rewrite(template, constants(pruned))
    assert "RELU" in kinds(data)  # what comes before, an addition, has none of its own
    assert kinds(data).count("ADD") == 2
    assert difference(pruned, IMAGES, answers(data, IMAGES.numpy())) < EQUAL


def test_no_second_activation_is_written_where_the_first_is_the_same(
    template: Template, network: fx.GraphModule, space: SearchSpace
) -> None:
    data = rewrite(template, constants(cut(network, space, inverted=100)))
    assert "RELU" not in kinds(data)
    assert "DEPTHWISE_CONV_2D" not in kinds(data)


def test_equal_and_zero_constants_are_told_apart(template: Template) -> None:
    """A converter would merge them or leave them out."""
    network = tiny(seed=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
            module.running_mean.zero_()
    nn.init.zeros_(network.get_submodule("linear").bias)
    data = rewrite(template, constants(network))
    assert difference(network, IMAGES, answers(data, IMAGES.numpy())) < EQUAL


def test_equal_networks_give_equal_bytes(template: Template) -> None:
    assert rewrite(template, constants(tiny(seed=5))) == rewrite(template, constants(tiny(seed=5)))


def test_the_template_is_not_changed(template: Template, network: fx.GraphModule, space: SearchSpace) -> None:
    before = rewrite(template, constants(network))
    rewrite(template, constants(cut(network, space, same=100)))
    assert rewrite(template, constants(network)) == before


def test_buffers_start_where_runtimes_map_them(template: Template, network: fx.GraphModule) -> None:
    data = rewrite(template, constants(network))
    root = schema.Model.GetRootAs(data, 0)
    starts = [
        table.Vector(table.Offset(4))
        for table in (root.Buffers(i)._tab for i in range(root.BuffersLength()))
        if table.Offset(4)
    ]
    assert len(starts) > 20
    assert all(start % 16 == 0 for start in starts)


def test_input_and_output_are_called_as_in_other_formats(template: Template, network: fx.GraphModule) -> None:
    model = flatbuffer.read(rewrite(template, constants(network)))
    graph = model.subgraphs[0]
    assert [graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)] == [b"image", b"scores"]
    assert [entry.name for entry in model.signatureDefs[0].inputs] == [b"image"]


def test_weights_are_called_as_their_layers(template: Template, network: fx.GraphModule) -> None:
    names = {tensor.name for tensor in flatbuffer.read(rewrite(template, constants(network))).subgraphs[0].tensors}
    assert {b"stem.weight", b"stem.bias", b"same.0.weight", b"linear.bias"} <= names


def test_widths_that_do_not_fit_together_are_refused(template: Template, network: fx.GraphModule) -> None:
    wrong = dict(constants(network))
    wrong["stem.weight"], wrong["stem.bias"] = wrong["stem.weight"][:6], wrong["stem.bias"][:6]
    with pytest.raises(FastPathUnsupportedError, match=r"CONV_2D of 8 channels a group would get 6"):
        rewrite(template, wrong)


def test_a_network_without_its_last_layer_is_refused(template: Template, network: fx.GraphModule) -> None:
    headless = {name: value for name, value in constants(network).items() if not name.startswith("linear")}
    with pytest.raises(FastPathUnsupportedError, match="the layers that make its output are gone"):
        rewrite(template, headless)


# ---------------------------------------------------------------- what the template is


def changed(layer: str, by: float) -> bytes:
    """The converted file with a constant added to a layer's bias."""
    model = flatbuffer.read(CONVERTED.read_bytes())
    own = constants(tiny())[layer].numpy()
    for tensor in model.subgraphs[0].tensors:
        value = flatbuffer.constant(model, tensor)
        if value is not None and value.shape == own.shape and np.allclose(value, own, atol=1e-5):
            model.buffers[tensor.buffer] = flatbuffer.new_buffer(value + np.float32(by))
            return flatbuffer.write(model)
    raise AssertionError(layer)


def test_what_the_converter_added_to_a_bias_is_added_again(network: fx.GraphModule) -> None:
    """As it does for a hard sigmoid, relu6(x + 3) / 6."""
    template = study(changed("linear.bias", 3.0), constants(tiny()))
    found = answers(rewrite(template, constants(network)), IMAGES.numpy())
    with torch.no_grad():
        assert np.allclose(found, network(IMAGES).numpy() + 3.0, atol=1e-4)


def test_a_constant_that_is_no_weight_is_refused() -> None:
    other = dict(constants(tiny()))
    del other["same.3.weight"]
    with pytest.raises(FastPathUnsupportedError, match=r"a constant of CONV_2D, of shape \(8, 3, 3, 8\), is no weight"):
        study(CONVERTED.read_bytes(), other)


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x1c\x00\x00\x00TFL3", CONVERTED.read_bytes()[:2000]])
def test_what_is_no_tflite_file_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"TFL3|outside the file"):
        flatbuffer.read(data)


@pytest.mark.parametrize("level", [0, 25, 50, 75])
def test_what_is_cut_from_a_network_of_signals_is_rewritten_too(level: int) -> None:
    template, network = study(signals.CONVERTED.read_bytes(), constants(signals.of_signals())), signals.of_signals(7)
    space = search_space(network, signals.SIGNALS, step=2)
    levels = tuple(level if level in g.kept else 0 for g in space.groups)
    pruned = prune(network, space, levels, in_order(space), signals.SIGNALS)
    data = rewrite(template, constants(pruned))
    assert difference(pruned, signals.SIGNALS, answers(data, signals.SIGNALS.numpy())) < EQUAL
    assert (level == 0) == (len(data) == len(rewrite(template, constants(network))))
