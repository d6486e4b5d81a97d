"""Payload: traced networks and the user's own classes, as another process gets them."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path

import pytest
import torch

from pipeline.errors import DataError, WorkersError
from pipeline.import_path import imported
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import notes, trace
from pipeline.workers.payload import packed

OWN = """
from helping import FACTOR


class Numbers:
    def __getitem__(self, place):
        return FACTOR * place
"""


@pytest.mark.parametrize("name", ["resnet20", "cifar_mobilenet_v2", "cifar_densenet40"])
def test_a_traced_network_is_the_same_graph_with_the_same_bits(name: str, one_thread: None) -> None:
    example = torch.rand(2, 3, 32, 32)
    network = trace(load_model(name, classes=10, channels=3, weights=None), example)
    network.to(memory_format=torch.channels_last)
    twin = pickle.loads(packed(network))
    assert [node.name for node in twin.graph.nodes] == [node.name for node in network.graph.nodes]
    assert twin.code == network.code
    assert list(twin.state_dict()) == list(network.state_dict())
    assert [p.stride() for p in twin.parameters()] == [p.stride() for p in network.parameters()]
    assert twin.training == network.training
    assert notes(twin) == notes(network)
    assert torch.equal(twin(example), network(example))
    space = search_space(network, example, step=8)
    assert search_space(twin, example, step=8) == space
    levels = tuple(50 if 50 in group.kept else 0 for group in space.groups)
    ranking = {group.name: torch.arange(group.channels) for group in space.groups}
    cut, other = (prune(each, space, levels, ranking, example) for each in (network, twin))
    assert all(torch.equal(a, b) for a, b in zip(cut.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_users_classes_travel_as_code_with_what_lies_beside_them(tmp_path: Path) -> None:
    (tmp_path / "helping.py").write_text("FACTOR = 3\n")
    (tmp_path / "numbers_of_mine.py").write_text(OWN)
    with imported(f"{tmp_path}/numbers_of_mine.py:Numbers", DataError, "data set") as made:
        data = packed(made())
    for name in ("helping", "_of_user_numbers_of_mine"):
        del sys.modules[name]
    assert pickle.loads(data)[7] == 21
    assert "helping" not in sys.modules


def test_what_cannot_be_sent_is_refused_in_a_sentence() -> None:
    with pytest.raises(WorkersError, match=r"cannot be sent to workers: .*lock.*run without --workers"):
        packed({"a lock": threading.Lock()})


def test_this_programs_own_classes_travel_by_name() -> None:
    assert b"pipeline.errors" in packed(WorkersError)
    assert pickle.loads(packed(WorkersError)) is WorkersError
