"""A peer's strategy in a whole run: what it says of itself, and what it sees of the network."""

from __future__ import annotations

import json
from collections.abc import Iterable

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from tests.command_line import Desk


@pytest.mark.slow
def test_purl_sees_the_filters_says_what_it_leaves_out_and_finds_a_network(desk: Desk) -> None:
    desk.settings(trials="6", target="latency=0.97x size=0.8x")
    run = desk.done("run", "--config", "run.yaml", "--strategy", "purl")
    assert "to zero, which makes no dense runtime faster" in " ".join(run.err.split())
    plans = [trial["plan"]["levels"] for trial in desk.done("runs", "show", "latest", "--json").json["trials"]]
    assert len({tuple(levels) for levels in plans}) == 6


@pytest.mark.slow
def test_purl_sets_single_weights_to_zero_in_two_rounds_down_to_the_bundle_and_another_checkpoint(desk: Desk) -> None:
    desk.settings(trials="5", target="density=0.3x", strategy="purl", rounds="2")
    run = desk.done("run", "--config", "run.yaml")
    assert "Zeros make no dense runtime faster" in " ".join(run.err.split())
    assert "Measure single cuts" not in run.err
    assert "Zero weights make no dense runtime faster" in " ".join(run.out.split())

    told = desk.done("runs", "show", "latest", "--json").json
    assert {level for trial in told["trials"] for level in trial["plan"]["levels"]} == {0}
    chosen = next(artifact for artifact in told["artifacts"] if artifact["chosen"])
    sparsity = chosen["after"]["sparsity"]
    assert 0.7 <= sparsity < 0.95
    assert chosen["after"]["parameters"] == told["base"]["parameters"]
    assert "zero weights" in desk.done("runs", "show", "latest").out

    desk.done("pull", "latest", "--output", "bundle")
    assert "Zero weights make no dense runtime faster" in (desk.folder / "bundle/README.md").read_text()
    weights = load_file(desk.folder / "bundle/weights.safetensors")
    zeros, count = zeros_of(weight for weight in weights.values() if weight.dim() > 1)
    assert zeros / count == pytest.approx(sparsity)
    graph = onnx.load(desk.folder / "bundle/model.onnx").graph
    written = (torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer)
    assert zeros_of(tensor for tensor in written if tensor.dim() > 1) == (zeros, count)
    shares = json.loads((desk.folder / "bundle/manifest.json").read_text())["plan"]["zeros"]
    assert all(
        round(share * weights[name].numel()) == int((weights[name] == 0).sum()) for name, share in shares.items()
    )

    other = torch.load(desk.folder / "net.pt")
    torch.save({name: value.flip(0) for name, value in other.items()}, desk.folder / "other.pt")
    applied = desk.done("apply", "bundle", "--weights", "other.pt", "--model", "net.py:Net", "--json").json
    assert applied["figures"]["pruned"]["sparsity"] == pytest.approx(sparsity)


def zeros_of(tensors: Iterable[torch.Tensor]) -> tuple[int, int]:
    """How many values are zero, and how many there are."""
    found = [(int((tensor == 0).sum()), tensor.numel()) for tensor in tensors]
    return sum(zeros for zeros, _ in found), sum(count for _, count in found)


@pytest.mark.slow
def test_a_density_that_no_threshold_reaches_is_refused_before_the_search(desk: Desk) -> None:
    desk.settings(target="density=0.001x", strategy="purl", cuts="{protect: [block.*]}")
    done = desk.do("run", "--config", "run.yaml")
    assert done.code == 2
    assert "target density=0.001x cannot be met: with all weights below 2.2 standard deviations" in done.error
    assert "Search with purl" not in done.err
