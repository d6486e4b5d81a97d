"""Rivals beside the pruned network: which is the better choice, in the report and in a comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.baselines.rival import RivalSpec, parse_rival
from pipeline.errors import ModelError
from pipeline.records import Baseline, Figures, Interval
from pipeline.report.rivals import rivals, verdict
from tests.examples import figures, measurement


def network(ratio: float, accuracy: float, half: float = 0.01) -> Figures:
    measured = measurement(2 * ratio, ratio=Interval(ratio, ratio - half, ratio + half))
    return replace(figures(), measurement=measured, test_accuracy=accuracy)


@pytest.mark.parametrize(
    ("ratio", "accuracy", "said"),
    [
        (0.3, 0.9, "faster and no worse: take it instead"),
        (0.3, 0.95, "faster and no worse: take it instead"),
        (0.3, 0.85, ""),
        (0.495, 0.95, ""),
        (0.7, 0.9, "slower and no better"),
        (0.7, 0.95, ""),
    ],
)
def test_a_rival_is_better_or_worse_only_in_both(ratio: float, accuracy: float, said: str) -> None:
    assert verdict(network(ratio, accuracy), network(0.5, 0.9)) == said


def test_the_pruned_network_stands_above_its_rivals() -> None:
    known = [Baseline(name="small (1a2b)", figures=network(0.3, 0.95)), Baseline(name="gone", figures=None)]
    rows = rivals(known, network(0.5, 0.9))
    assert [(row.network, row.score) for row in rows] == [("pruned", "90.00%"), ("rival small (1a2b)", "95.00%")]
    assert rivals([], network(0.5, 0.9)) == []


def test_a_rival_is_a_network_and_its_weights() -> None:
    assert parse_rival("nets/net.py:make:nets/small.pt").model == "nets/net.py:make"
    assert parse_rival("mobilenet_v2:small.safetensors").model == "mobilenet_v2"
    assert parse_rival("nets/small.onnx") == RivalSpec("nets/small.onnx", None)


@pytest.mark.parametrize("text", ["net.py:make", "mobilenet_v2", "net.py"])
def test_a_rival_without_weights_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ModelError, match=r"write MODEL:WEIGHTS, such as net.py:make:small.pt"):
        parse_rival(text)
