from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.pruning.criteria import l1, l2, taylor
from pipeline.pruning.groups import coupled_channels, search_space
from pipeline.pruning.ranking import rank
from pipeline.pruning.tracing import trace
from tests.pipeline.pruning.networks import IMAGES, Concat, Residual, studied

LABELS = torch.tensor([0, 1, 2, 3])
CRITERIA = ("bn_scale", "fpgm", "l1", "l2", "random", "taylor")


class Tiny(nn.Module):
    """1 × 1 convolutions whose weights are given, so that scores can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)
        self.fc = nn.Linear(2, 2)
        self.conv1.weight.data = torch.tensor([3.0, -1.0, 2.0, -4.0]).view(4, 1, 1, 1)
        self.conv2.weight.data = torch.tensor([[1.0, 1.0, -1.0, 1.0], [1.0, 1.0, 1.0, 3.0]]).view(2, 4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(torch.relu(self.conv1(x))).mean((2, 3)))


ONE = torch.arange(1.0, 9.0).view(2, 1, 2, 2)


def test_l1_is_the_mean_over_coupled_layers_of_absolute_weights() -> None:
    group = coupled_channels(trace(Tiny(), ONE), ONE)["conv1"]
    by_hand = (torch.tensor([3.0, 1.0, 2.0, 4.0]) + torch.tensor([2.0, 2.0, 2.0, 4.0])) / 2
    torch.testing.assert_close(l1.score(group), by_hand / by_hand.mean())


def test_l2_squares_the_weights() -> None:
    group = coupled_channels(trace(Tiny(), ONE), ONE)["conv1"]
    by_hand = (torch.tensor([9.0, 1.0, 4.0, 16.0]) + torch.tensor([2.0, 2.0, 2.0, 10.0])) / 2
    torch.testing.assert_close(l2.score(group), by_hand / by_hand.mean())


def test_channels_are_ordered_from_the_least_important_and_ties_by_index() -> None:
    model = trace(Tiny(), ONE)
    space = search_space(model, ONE, step=1)
    assert rank(model, space, "l1", ONE, [])["conv1"].tolist() == [1, 2, 0, 3]
    model.get_submodule("conv1").weight.data = torch.ones(4, 1, 1, 1)
    model.get_submodule("conv2").weight.data = torch.ones(2, 4, 1, 1)
    assert rank(model, space, "l1", ONE, [])["conv1"].tolist() == [0, 1, 2, 3]


def test_taylor_is_weight_times_gradient_of_the_layers_that_make_a_channel() -> None:
    model = trace(Tiny(), ONE)
    labels = torch.tensor([0, 1])
    functional.cross_entropy(model(ONE), labels).backward()
    conv = model.get_submodule("conv1")
    by_hand = (conv.weight * conv.weight.grad).flatten(1).sum(1).abs() + (conv.bias * conv.bias.grad).abs()
    torch.testing.assert_close(taylor.score(coupled_channels(model, ONE)["conv1"]), by_hand.detach())

    fresh = trace(Tiny(), ONE)
    fresh.load_state_dict(model.state_dict())
    space = search_space(fresh, ONE, step=1)
    order = rank(fresh, space, "taylor", ONE, [(ONE, labels)])["conv1"]
    assert order.tolist() == torch.argsort(by_hand.detach(), stable=True).tolist()


def test_taylor_counts_batch_norm_as_well() -> None:
    model, space, _ = studied(Residual)
    before = rank(model, space, "taylor", IMAGES, [(IMAGES, LABELS)])["block1.conv1"]
    functional.cross_entropy(model(IMAGES), LABELS).backward()
    group = coupled_channels(model, IMAGES)["block1.conv1"]
    plain = taylor.score(group)
    model.get_submodule("block1.bn1").weight.grad *= 1000
    assert not torch.allclose(taylor.score(group), plain)
    assert sorted(before.tolist()) == list(range(8))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_orders_every_channel_once_and_the_same_seed_the_same_way(criterion: str) -> None:
    for kind in (Residual, Concat):
        model, space, _ = studied(kind)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        batches = [(IMAGES, LABELS), (IMAGES.flip(3), LABELS)]
        generator = torch.get_rng_state()
        first = rank(model, space, criterion, IMAGES, batches, seed=3)
        assert torch.equal(torch.get_rng_state(), generator)
        torch.rand(7)
        again = rank(model, space, criterion, IMAGES, batches, seed=3)
        for group in space.groups:
            assert sorted(first[group.name].tolist()) == list(range(group.channels))
            assert torch.equal(first[group.name], again[group.name])
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_random_orders_differ_by_seed() -> None:
    model, space, _ = studied(Residual)
    one, other = (rank(model, space, "random", IMAGES, [], seed=seed)["stem"] for seed in (1, 2))
    assert one.tolist() != other.tolist()


def test_batch_norm_scale_falls_back_to_l1_where_there_is_none() -> None:
    model, space, _ = studied(Concat)
    by_l1, by_scale = (rank(model, space, name, IMAGES, []) for name in ("l1", "bn_scale"))
    assert torch.equal(by_l1["left"], by_scale["left"])


def test_an_unknown_criterion_names_the_nearest() -> None:
    model, space, _ = studied(Concat)
    with pytest.raises(ConfigError, match=r"'tailor'.*\(did you mean 'taylor'\?\)"):
        rank(model, space, "tailor", IMAGES, [])
