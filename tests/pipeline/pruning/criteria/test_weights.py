"""l1, l2, bn_scale, fpgm: what torch-pruning says where it is right, and where it is not, what is."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import nn

from pipeline.config import CriterionConfig
from pipeline.pruning.criteria import bn_scale, fpgm, l1, l2
from tests.pipeline.pruning.criteria.peers import Plain, ours, theirs
from tests.pipeline.pruning.networks import Chain, Concat, InvertedResidual, Residual, lively

LAYERS = [
    (Chain, "conv1"),  # a norm behind it
    (Chain, "conv2"),  # 16 positions of a linear layer read a unit
    (Residual, "block1.conv1"),
    (Residual, "block1.conv3"),  # made by four layers
    (Concat, "left"),
    (Concat, "right"),  # read behind another branch
    (InvertedResidual, "stem"),  # made by three layers without a norm
]


def network(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return lively(kind()).eval()


@pytest.mark.parametrize(("kind", "root"), LAYERS)
@pytest.mark.parametrize(("criterion", "power"), [(l1, 1), (l2, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_magnitudes_are_those_of_torch_pruning(kind, root, criterion, power, reduction) -> None:
    importance = tp.importance.GroupMagnitudeImportance(p=power, group_reduction=reduction, normalizer=None)
    found = ours(network(kind), root, criterion, options=CriterionConfig(reduction=reduction))
    torch.testing.assert_close(found, theirs(network(kind), root, importance), rtol=1e-5, atol=1e-7)


def test_the_largest_of_a_groups_layers_is_that_of_torch_pruning_where_a_unit_has_one_position() -> None:
    importance = tp.importance.GroupMagnitudeImportance(p=1, group_reduction="max", normalizer=None)
    found = ours(network(Residual), "block1.conv3", l1, options=CriterionConfig(reduction="max"))
    torch.testing.assert_close(found, theirs(network(Residual), "block1.conv3", importance), rtol=1e-5, atol=1e-7)


def test_all_positions_of_a_unit_count_where_torch_pruning_keeps_the_last() -> None:
    model = Plain(pixels=4)
    model.fc.weight.data.fill_(0.01)
    model.fc.weight.data[:, 8] = 100  # the first of four pixels of channel 2
    largest = CriterionConfig(reduction="max")
    importance = tp.importance.GroupMagnitudeImportance(p=1, group_reduction="max", normalizer=None)
    assert ours(model, "conv", l1, options=largest)[2].item() == pytest.approx(500.15)
    assert theirs(model, "conv", importance)[2] < 100


def test_depthwise_filters_count_where_torch_pruning_passes_them_over() -> None:
    model, dead = network(InvertedResidual), network(InvertedResidual)
    dead.first[3].weight.data[5] = 0
    importance = tp.importance.GroupMagnitudeImportance(p=1, normalizer=None)
    assert torch.equal(theirs(model, "first.0", importance), theirs(dead, "first.0", importance))
    change = ours(model, "first.0", l1) - ours(dead, "first.0", l1)
    assert torch.nonzero(change).flatten().tolist() == [5]
    # The mean is over five layers: two convolutions and the depthwise one, two norms.
    assert change[5].item() == pytest.approx(model.first[3].weight[5].abs().sum().item() / 5)


def test_the_slopes_of_prelu_are_no_magnitude() -> None:
    class Sloped(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.PReLU(6)

    steep = Sloped()
    steep.bn.weight.data = torch.arange(6.0)
    assert torch.equal(ours(Sloped(), "conv", l1), ours(steep, "conv", l1))


@pytest.mark.parametrize("root", ["block1.conv1", "block1.conv2", "block1.conv3"])
def test_batch_norm_scales_are_those_of_torch_pruning(root: str) -> None:
    importance = tp.importance.BNScaleImportance(normalizer=None)
    found = ours(network(Residual), root, bn_scale)
    torch.testing.assert_close(found, theirs(network(Residual), root, importance), rtol=1e-6, atol=0)


def test_a_negative_batch_norm_scale_counts_by_its_size() -> None:
    model = Plain(norm=True)
    model.bn.weight.data = torch.tensor([-3.0, 1.0, -2.0, 0.0, 5.0, -4.0])
    assert ours(model, "conv", bn_scale).tolist() == [3, 1, 2, 0, 5, 4]


def test_batch_norm_scale_is_l1_where_there_is_none() -> None:
    assert torch.equal(ours(network(Concat), "left", bn_scale), ours(network(Concat), "left", l1))


def test_fpgm_is_that_of_torch_pruning_for_filters_of_one_sign() -> None:
    model = Plain()
    model.conv.weight.data.abs_()
    importance = tp.importance.FPGMImportance(p=1, normalizer=None)
    importance.target_types = [nn.Conv2d]  # He et al. compare filters, not the weights that read them
    torch.testing.assert_close(ours(model, "conv", fpgm), theirs(model, "conv", importance), rtol=1e-5, atol=0)


def test_fpgm_tells_a_filter_from_its_negative_where_torch_pruning_does_not() -> None:
    model = Plain()
    model.conv.weight.data = torch.tensor([1.0, -1, 1, -1, 1, -1])[:, None, None, None].expand(6, 3, 3, 3).clone()
    model.fc.weight.data.fill_(1)
    assert theirs(model, "conv", tp.importance.FPGMImportance(normalizer=None)).tolist() == [0] * 6
    distance = 2 * 27**0.5  # to each of the three filters of the other sign
    assert ours(model, "conv", fpgm).tolist() == pytest.approx([3 * distance] * 6)


def test_fpgm_by_hand() -> None:
    model = Plain()
    filters = model.conv.weight.detach().double()
    by_hand = []
    for one in filters:
        distances = [((one - other) ** 2).sum().sqrt().item() for other in filters]
        by_hand.append(sum(distances))
    assert ours(model, "conv", fpgm).tolist() == pytest.approx(by_hand, rel=1e-9)
