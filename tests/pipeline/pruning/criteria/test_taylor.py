from __future__ import annotations

import copy

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from pipeline.pruning.criteria import taylor
from pipeline.pruning.dependency.channel_sets import Slice
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.evidence import MINIBATCH, Evidence
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.criteria.peers import Plain, backward, ours, theirs
from tests.pipeline.pruning.networks import IMAGES, Residual, lively

LABELS = torch.tensor([0, 1, 2, 3])


def slope(model: nn.Module, parameter: str, unit: int) -> float:
    """How the loss changes as the weights of one unit are scaled: central differences, in float64."""

    def loss(factor: float) -> float:
        scaled = copy.deepcopy(model).double().eval()
        with torch.no_grad():
            scaled.get_parameter(parameter)[unit] *= factor
            return functional.cross_entropy(scaled(IMAGES.double()), LABELS).item()

    return (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5


@pytest.mark.parametrize("root", ["stem", "block1.conv2", "block1.conv3"])
def test_it_is_how_the_loss_changes_when_a_units_weights_are_scaled(root: str) -> None:
    torch.manual_seed(0)
    model = lively(Residual()).eval()
    makers = {
        "stem": ["stem.weight", "stem.bias"],
        "block1.conv2": ["block1.conv2.weight", "block1.bn2.weight", "block1.bn2.bias"],
        "block1.conv3": [
            *(f"block{b}.{part}" for b in (1, 2, 3) for part in ("conv3.weight", "bn3.weight", "bn3.bias")),
            *(f"block1.downsample.{part}" for part in ("0.weight", "1.weight", "1.bias")),
        ],
    }[root]
    by_hand = []
    for unit in range(4):
        effects = [abs(slope(model, parameter, unit)) for parameter in makers]
        by_hand.append(sum(effects) / len(effects))
    assert ours(model, root, taylor, [(IMAGES, LABELS)])[:4].tolist() == pytest.approx(by_hand, rel=1e-3, abs=1e-7)


def test_without_norm_and_bias_it_is_that_of_torch_pruning() -> None:
    model = Plain()
    found = ours(model, "conv", taylor, [(IMAGES, LABELS)])
    backward(model, LABELS)
    importance = tp.importance.GroupTaylorImportance(multivariable=True, normalizer=None, target_types=[nn.Conv2d])
    torch.testing.assert_close(found, theirs(model, "conv", importance), rtol=1e-4, atol=1e-8)


class Louder(Evidence):
    """Batch norm's gradients a thousandfold."""

    def effects(self, part: Slice) -> Tensor:
        return super().effects(part) * (1000 if part.tensor.startswith("bn.") else 1)


def test_batch_norms_gradients_count_where_torch_pruning_passes_them_over() -> None:
    model = lively(Plain(norm=True))
    network = trace(model, IMAGES)
    group = dependency_graph(network, IMAGES).groups["conv"]
    once, loud = (taylor.scores(group, kind(network, [group], [(IMAGES, LABELS)])) for kind in (Evidence, Louder))
    parts = Evidence(network, [group], []).parameters(group, "makes", "scales")
    assert [part.tensor for part in parts] == ["conv.weight", "bn.bias", "bn.weight"]
    factors = [(b / a).mean().item() for a, b in zip(once, loud, strict=True)]
    assert factors == pytest.approx([1, 1000, 1000])

    backward(model, LABELS)
    importance = tp.importance.GroupTaylorImportance(bias=True, normalizer=None)
    before = theirs(model, "conv", importance)
    model.bn.weight.grad *= 1000
    model.bn.bias.grad *= 1000
    assert torch.equal(theirs(model, "conv", importance), before)


def test_how_the_images_are_batched_does_not_matter() -> None:
    model = lively(Plain(norm=True))
    images = torch.randn(45, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(45) % 5
    whole = ours(model, "conv", taylor, [(images, labels)])
    parts = ours(model, "conv", taylor, zip(images.split(7), labels.split(7), strict=True))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-8)


def test_effects_of_opposite_sign_in_two_mini_batches_do_not_cancel() -> None:
    model = lively(Plain(norm=True))
    images = torch.randn(2 * MINIBATCH, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(2 * MINIBATCH) % 5
    halves = zip(images.split(MINIBATCH), labels.split(MINIBATCH), strict=True)
    apart = [ours(model, "conv", taylor, [half]) for half in halves]
    torch.testing.assert_close(ours(model, "conv", taylor, [(images, labels)]), (apart[0] + apart[1]) / 2)


def test_frozen_weights_are_ranked_like_any_others() -> None:
    free, frozen = Plain(norm=True), Plain(norm=True).requires_grad_(False)
    batches = [(IMAGES, LABELS)]
    assert torch.equal(ours(free, "conv", taylor, batches), ours(frozen, "conv", taylor, batches))
