"""Weights are written whatever lies or is shared in the memory."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load

from pipeline.models.checkpoints import load_weights
from pipeline.models.safetensors_io import tensors_bytes, weights_bytes
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.networks import IMAGES, Tied


def test_layers_tied_to_one_weight_are_saved_and_tied_again_when_loaded(tmp_path: Path) -> None:
    saved, loaded = trace(Tied(), IMAGES), trace(Tied(), IMAGES)
    assert saved.first.weight is saved.second.weight
    file = tmp_path / "weights.safetensors"
    file.write_bytes(weights_bytes(saved))
    load_weights(loaded, file)
    assert torch.equal(loaded(IMAGES), saved(IMAGES))
    with torch.no_grad():
        loaded.first.weight.fill_(7.0)
    assert (loaded.second.weight == 7.0).all()


def test_views_of_one_memory_are_each_written_whole() -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    found = load(tensors_bytes({"whole": whole, "row": whole[1], "turned": whole.T, "spread": whole[:1].expand(4, 3)}))
    assert found["row"].tolist() == [3, 4, 5]
    assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["spread"].tolist() == [[0, 1, 2]] * 4


def test_equal_weights_give_equal_bytes_however_they_lie() -> None:
    model = Tied()
    before = weights_bytes(model)
    assert weights_bytes(model.to(memory_format=torch.channels_last)) == before
    assert weights_bytes(model.requires_grad_(False)) == before


def test_the_header_holds_what_is_told_of_the_tensors() -> None:
    data = tensors_bytes({"a": torch.ones(1)}, {"step": "3"})
    assert b'{"step":"3"}' in data[8 : 8 + int.from_bytes(data[:8], "little")]
