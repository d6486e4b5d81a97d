"""Which channels are coupled, operator by operator; and the proof that finds a rule which is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.dependency.propagation import elementwise, propagate
from pipeline.pruning.dependency.propagation.labels import UnsupportedOperatorError
from pipeline.pruning.dependency.propagation.propagate import RULES
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import without
from pipeline.pruning.surgery.verify_cut import find_violations
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.networks import IMAGES, Concat, Residual, Reversed, Tied, traced


@torch.fx.wrap
def relu(x: Tensor) -> Tensor:
    return x.flip(1)


class Between(nn.Module):
    """A convolution of 8 channels, something done to them, and another convolution that reads the result."""

    def __init__(self, done: Callable[[Tensor], Tensor], reads: int = 8) -> None:
        super().__init__()
        self.done = done
        self.conv, self.reader = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(reads, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.reader(self.done(torch.tanh(self.conv(x)))).mean((2, 3)))


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


FOLLOWED: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "elementwise": (lambda x: functional.hardswish(x * 2 + 1), 8, 8),
    "gate": (lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), 8, 8),
    "chunk and swap": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), 8, 8),
    "split in three": (lambda x: torch.cat([x.split([2, 2, 4], 1)[i] for i in (2, 0)], 1), 6, 8),
    "slices": (lambda x: x[:, 2:6] + x[:, :4], 4, 4),
    "shuffle": (shuffle, 8, 4),
    "pixel shuffle": (lambda x: functional.pixel_shuffle(x, 2), 2, 2),
    "padded channels": (lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)), 12, 8),
    "stacked": (lambda x: torch.stack([x, x * 3], 1).sum(1), 8, 8),
    "repeated": (lambda x: x.repeat(1, 2, 1, 1), 16, 8),
    "moved dimensions": (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 8, 8),
    "written sizes": (lambda x: x.view(-1, 8, 64).relu().reshape(-1, 8, 8, 8), 8, 8),
    "softmax in space": (lambda x: x.flatten(2).softmax(2).unflatten(2, (8, 8)), 8, 8),
    "pooled and grown": (lambda x: functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2), 8, 8),
}
"""What is done → that, how many channels are read, how many sets of channels can go one by one."""


@pytest.mark.parametrize("name", FOLLOWED)
def test_channels_are_followed_and_what_is_cut_is_what_would_be_ignored(name: str) -> None:
    done, reads, units = FOLLOWED[name]
    model = trace(Between(done, reads), IMAGES)
    known = dependency_graph(model, IMAGES)
    assert sum(group.units for group in known.groups.values() if "conv" in known.makers[group.name]) == units
    assert find_violations(model, IMAGES) == {}
    pruned = without(model, {g: torch.arange(c.units // 2) for g, c in known.groups.items()}, (), IMAGES)
    assert pruned.conv.out_channels < 8


STAYS = {
    "softmax": (lambda x: x.softmax(1), "softmax mixes its channels"),
    "mean over channels": (lambda x: x - x.mean(1, keepdim=True), "mean reduces over its channels"),
    "normalised": (lambda x: functional.normalize(x, dim=1), "normalize mixes its channels"),
    "product of matrices": (lambda x: x.transpose(1, 3) @ torch.eye(8), "matmul is not supported"),
    "picked": (lambda x: torch.cat([x[:, 3:4], x[:, ::2], x[:, 1:4]], 1), "some of its channels are picked"),
    "fold": (lambda x: functional.unfold(x, 1).view(-1, 8, 8, 8), "unfold is not supported"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_cannot_be_followed_stays_whole_with_the_reason_and_the_rest_can_go(name: str) -> None:
    done, reason = STAYS[name]
    known = dependency_graph(trace(Between(done), IMAGES), IMAGES)
    assert list(known.groups) == ["reader"]
    assert reason in known.refused["conv"]


@pytest.mark.slow
def test_an_operator_of_the_users_own_is_not_trusted_for_its_name() -> None:
    known = dependency_graph(trace(Between(lambda x: relu(x)), IMAGES), IMAGES)
    assert "flip mixes its channels" in known.refused["conv"]


def test_a_wrong_rule_is_found_by_the_proof_and_only_its_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "flip", elementwise.unary)  # flip(1) does not keep each channel in its place
    model = traced(Reversed)
    assert set(dependency_graph(model, IMAGES).groups) == {"conv1", "conv2"}
    assert find_violations(model, IMAGES) == {
        "conv1": "cut, it gives another network than one that ignores its channels"
    }


def test_weights_that_two_layers_share_are_cut_once_and_stay_shared() -> None:
    model = traced(Tied)
    known = dependency_graph(model, IMAGES)
    assert find_violations(model, IMAGES) == {}
    name = next(iter(known.groups))
    pruned = without(model, {name: torch.arange(known.groups[name].units // 2)}, (), IMAGES)
    assert pruned.first.weight is pruned.second.weight
    assert len(list(pruned.parameters())) == len(list(model.parameters()))


def test_what_is_known_stays_with_the_network_and_not_with_what_is_cut_from_it() -> None:
    model = traced(Residual)
    known = dependency_graph(model, IMAGES)
    assert dependency_graph(copy.deepcopy(model), IMAGES) is known
    name = next(iter(known.groups))
    pruned = without(model, {name: torch.arange(2)}, (), IMAGES)
    assert dependency_graph(pruned, IMAGES) is not known
    assert dependency_graph(pruned, IMAGES).groups[name].units == known.groups[name].units - 2


def test_the_same_network_gives_the_same_groups_each_time() -> None:
    first, second = (dependency_graph(traced(Concat), IMAGES) for _ in range(2))
    assert list(first.groups) == list(second.groups)
    for name, group in first.groups.items():
        for a, b in zip(group.slices, second.groups[name].slices, strict=True):
            assert (a.tensor, a.axis, a.role) == (b.tensor, b.axis, b.role)
            assert torch.equal(a.positions, b.positions)


def test_weights_that_are_computed_in_each_pass_are_not_followed() -> None:
    state = propagate(traced(Residual), IMAGES)
    with pytest.raises(UnsupportedOperatorError, match="computed anew"):
        state.name(torch.zeros(3))


class Gate(nn.Module):
    """Branches on values, so it can only be called as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > -1e9 else x


def test_a_module_that_cannot_be_looked_into_stays_whole_and_is_listed_with_its_macs() -> None:
    space = search_space(trace(Between(Gate()), IMAGES), IMAGES, step=2)
    assert [group.name for group in space.groups] == ["reader"]
    assert "Gate is not supported" in space.refused["done"]
    assert space.refused_macs["done"] == 8 * 8 * 64
