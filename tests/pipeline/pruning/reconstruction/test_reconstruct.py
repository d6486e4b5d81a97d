"""Layers behind a cut are fitted to what they answered: on toy networks of each structure, without labels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import DataError
from pipeline.pruning.reconstruction.batch_norm import reestimate_batch_norm
from pipeline.pruning.reconstruction.reconstruct import TargetActivations, reconstruct
from pipeline.pruning.surgery.prune import Ranking, kept_channels, prune, surplus
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace
from tests.pipeline.pruning import networks
from tests.pipeline.pruning.networks import Chain, Residual, studied

pytestmark = pytest.mark.usefixtures("one_thread")

MANY = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(2))
PLACES = 2000


class Twins(nn.Module):
    """Its second half of channels says what the first says; the layer that reads them has its own weights for each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2, self.fc = nn.Conv2d(16, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))

    def pair(self) -> None:
        """Make the second half equal to the first."""
        for tensor in (*self.conv1.parameters(), *self.bn1.parameters(), *self.bn1.buffers()):
            if tensor.dim():
                tensor.data[8:] = tensor.data[:8]


class Twice(nn.Module):
    """One convolution that is called at two places, behind one that can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.wide(torch.relu(self.wide(torch.relu(self.stem(x))))))
        return self.fc(x.mean((2, 3)))


def cut_and_whole(kind: type[nn.Module], level: int) -> tuple[fx.GraphModule, fx.GraphModule, dict[str, Tensor]]:
    """A network, cut in every group that has the level, as it is right after the cut; the whole; what is left."""
    whole, space, ranking = studied(kind)
    levels = tuple(level if level in group.kept else 0 for group in space.groups)
    assert any(levels)
    return (
        prune(whole, space, levels, ranking, networks.IMAGES), whole,
        left(whole, space, levels, ranking),
    )  # fmt: skip


def left(whole: fx.GraphModule, space: SearchSpace, levels: tuple[int, ...], ranking: Ranking) -> dict[str, Tensor]:
    return kept_channels(whole, surplus(space, levels, ranking), networks.IMAGES)


def error(network: fx.GraphModule, whole: fx.GraphModule) -> float:
    with torch.no_grad():
        return float((network(MANY) - whole(MANY)).square().mean())


def answers(whole: fx.GraphModule, *batches: Tensor, places: int = PLACES) -> TargetActivations:
    return TargetActivations(whole, [(images, torch.zeros(len(images))) for images in batches or (MANY,)], places)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


STRUCTURES = ("Chain", "Residual", "InvertedResidual", "Concat", "Grouped", "Shuffle", "Reversed", "Twins")


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_cut_network_answers_more_as_the_whole_one_did_than_with_batch_norm_alone(kind: str) -> None:
    pruned, whole, kept = cut_and_whole(getattr(networks, kind, Twins), 50)
    normed = copy.deepcopy(pruned)
    reestimate_batch_norm(normed, [(MANY, torch.zeros(len(MANY)))])
    before = state(pruned)
    reconstruct(pruned, answers(whole), kept)
    assert error(pruned, whole) < 0.7 * error(normed, whole)
    assert {n: v.shape for n, v in before.items()} == {n: v.shape for n, v in pruned.state_dict().items()}
    assert not any(module.training for module in pruned.modules())


def test_a_removed_block_is_made_up_for_by_those_behind_it() -> None:
    whole, space, ranking = studied(Residual)
    first = next(group.bypass for group in space.groups if group.bypass)
    levels = tuple(100 if group.bypass == first else 0 for group in space.groups)
    pruned = prune(whole, space, levels, ranking, networks.IMAGES)
    raw = error(pruned, whole)
    reconstruct(pruned, answers(whole), left(whole, space, levels, ranking))
    assert error(pruned, whole) < 0.5 * raw


def test_what_the_channels_that_are_left_can_say_comes_back() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Twins()
    networks.lively(model)
    model.pair()
    whole = trace(model, networks.IMAGES)
    _, space, ranking = studied(Twins)
    levels = tuple(50 if "conv1" in group.name else 0 for group in space.groups)
    pruned = prune(whole, space, levels, ranking, networks.IMAGES)
    raw = error(pruned, whole)
    reconstruct(pruned, answers(whole), left(whole, space, levels, ranking))
    assert error(pruned, whole) < 0.03 * raw


def test_a_network_that_was_not_cut_stays_as_it_is() -> None:
    whole, _, _ = studied(Residual)
    same = copy.deepcopy(whole)
    reconstruct(same, answers(whole), {})
    assert all(torch.equal(value, state(whole)[name]) for name, value in same.state_dict().items())


def test_what_comes_before_the_first_cut_stays_and_weights_stay_as_long_as_they_were() -> None:
    pruned, whole, kept = cut_and_whole(Residual, 50)
    before = state(pruned)
    reconstruct(pruned, answers(whole), kept)
    after = pruned.state_dict()
    assert torch.equal(after["stem.weight"], before["stem.weight"])
    for layer in ("block1.conv2", "block2.conv3"):
        was, now = before[f"{layer}.weight"], after[f"{layer}.weight"]
        assert not torch.allclose(now, was, rtol=0.01)
        torch.testing.assert_close(now.flatten(1).norm(dim=1), was.flatten(1).norm(dim=1))


def test_a_layer_that_is_called_twice_keeps_its_weights() -> None:
    whole, space, ranking = studied(Twice)
    assert any("wide" in layer for group in space.groups for layer in group.layers)
    levels = tuple(group.levels[-1] for group in space.groups)
    pruned = prune(whole, space, levels, ranking, networks.IMAGES)
    before = state(pruned)
    reconstruct(pruned, answers(whole), left(whole, space, levels, ranking))
    changed = {name for name, value in pruned.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_half_precision_answers_with_the_fitted_weights_at_once() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        pruned, whole, kept = cut_and_whole(Chain, 50)  # runs the network to check it, and so remembers its weights
        reconstruct(pruned, answers(whole), kept)
        with torch.no_grad():
            inside = pruned(MANY)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(inside, pruned(MANY))


def test_no_more_places_are_looked_at_than_were_asked_for_nor_than_there_are() -> None:
    found = answers(studied(Chain)[0], MANY[:50], places=200)
    assert {tuple(places.shape) for places in found.places.values()} == {(50, 4), (50, 1)}
    assert found.values["bn1"].shape == (200, 8)
    assert found.values["fc"].shape == (50, 5)


def test_batches_count_as_one_and_their_images_may_be_many() -> None:
    whole = studied(Chain)[0]
    apart, at_once = answers(whole, MANY[:120], MANY[120:]), answers(whole)
    assert apart.places.keys() == at_once.places.keys()
    assert all(torch.equal(apart.values[name], at_once.values[name]) for name in at_once.values)


def test_of_large_images_fewer_are_taken_and_two_always() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)))

    whole = trace(Mean(), torch.zeros(2, 3, 8, 8))
    large, huge = torch.zeros(4, 3, 1, 1).expand(4, 3, 1100, 1100), torch.zeros(4, 3, 1, 1).expand(4, 3, 3600, 3600)
    assert len(answers(whole, large, large, large, large).images) == 256 * 224**2 // 1100**2 == 10
    assert len(answers(whole, huge).images) == 2


def test_a_layer_that_reads_much_is_looked_at_in_fewer_places() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.wide = nn.Conv2d(3, 2048, 1), nn.Conv2d(2048, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide(self.stem(x)).mean((2, 3))

    images = MANY[:2].repeat(1, 1, 4, 4)
    found = answers(trace(Wide(), images), images, places=2000)
    assert found.places["stem"].shape == (2, 1000)
    assert found.places["wide"].shape == (2, 455)  # each of 9 · 2048 numbers, together at most 2²⁴


def test_without_images_there_is_nothing_to_fit_to() -> None:
    with pytest.raises(DataError, match="without images"):
        TargetActivations(studied(Chain)[0], [], PLACES)


def test_one_image_is_too_few_where_a_norm_sees_one_value_a_channel() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.hidden, self.norm, self.fc = (
                nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.norm(self.hidden(torch.relu(self.conv(x)).mean((2, 3))))))

    pruned, whole, kept = cut_and_whole(Pooled, 50)
    with pytest.raises(DataError, match="give at least two"):
        reconstruct(pruned, answers(whole, MANY[:1]), kept)
