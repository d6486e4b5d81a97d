"""INT8 beside its parent on the same images, and float runs where it hurts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from pipeline.data.dataset import Split
from pipeline.data.pools import MemoryPool
from pipeline.export.quantization.placement import weighted_nodes
from pipeline.export.quantization.quantize import QuantizedFile, calibrate, quantize
from pipeline.export.quantization.value_graph import ValueGraph
from pipeline.quantization.float_runs import runs, with_float_runs
from pipeline.quantization.judgement import Judgement, Parent, paired_change
from pipeline.records import Interval
from tests.pipeline.export.quantization.networks import HERE, IMAGES, float_file


def judged(change: Interval, agreement: float = 1.0) -> Judgement:
    return Judgement(images=1000, float32=0.9, int8=0.9 + change.value, agreement=agreement, change=change)


def test_a_loss_counts_that_is_large_and_no_chance() -> None:
    assert not judged(Interval(-0.02, -0.03, -0.01)).is_good
    assert judged(Interval(-0.02, -0.05, 0.01)).is_good  # a few images more or less
    assert judged(Interval(-0.005, -0.008, -0.002)).is_good
    assert not judged(Interval(0.0, -0.01, 0.01), agreement=0.9).is_good


def test_the_interval_of_a_change_holds_the_truth() -> None:
    random = np.random.default_rng(0)
    lost, won, images, held = 0.03, 0.02, 500, 0
    for _ in range(400):
        draws = random.random(images)
        before = (draws < lost) | (draws > 0.3)
        after = ((draws >= lost) & (draws < lost + won)) | (draws > 0.3)
        found = paired_change(before, after)
        held += found.low <= won - lost <= found.high
    assert held / 400 >= 0.93


def test_no_difference_at_all_is_not_taken_for_certainty() -> None:
    same = np.ones(50, bool)
    found = paired_change(same, same)
    assert found.low < found.value == 0 < found.high


def split() -> Split:
    pixels = ((IMAGES - IMAGES.min()) / (IMAGES.max() - IMAGES.min()) * 255).to(torch.uint8)
    pool = MemoryPool(pixels, torch.arange(len(pixels)) % 5)
    return Split(pool, torch.arange(len(pixels)), (0.5,) * 3, (0.13,) * 3)


def test_a_file_is_judged_by_the_images_of_its_parent() -> None:
    model = float_file("residual")
    images = next(split().batches(32))[0].numpy()
    made = quantize(model, calibrate(model, images), scheme=HERE)
    found = Parent(model.SerializeToString(), split()).judge(made.data)
    assert found.images == len(IMAGES)
    assert found.agreement > 0.8
    assert found.change.low <= found.int8 - found.float32 <= found.change.high


@pytest.mark.parametrize("count", [2, 3, 7, 16, 53])
def test_runs_have_two_layers_or_more_and_every_layer_is_in_one(count: int) -> None:
    found = [list(run) for run in runs(list(range(count)))]
    assert [layer for run in found for layer in run] == list(range(count))
    assert min(map(len, found)) >= 2


def test_runs_stay_float_while_that_helps_and_never_everything() -> None:
    """Ranges that are far too wide for some values, as an outlier makes them, spoil just the layers that read them."""
    model = float_file("residual")
    graph = ValueGraph(model)
    layers = weighted_nodes(graph)
    images = next(split().batches(32))[0].numpy()
    ranges = calibrate(model, images)
    spoilt = graph.nodes[layers[2]].input[0]
    wide = {**ranges, spoilt: type(ranges[spoilt])(-3000.0, 3000.0)}
    parent = Parent(model.SerializeToString(), split())

    def make(kept: object) -> QuantizedFile:
        return quantize(model, wide, keep_float=kept, scheme=HERE)  # type: ignore[arg-type]

    first = make(())
    before = parent.judge(first.data)
    assert not before.is_good
    file, after = with_float_runs(first, before, layers, make, parent.judge)
    assert after.agreement > before.agreement
    assert 2 <= len(file.float_layers) < len(layers)
    onnx.checker.check_model(onnx.load_from_string(file.data))
