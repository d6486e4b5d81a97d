"""feature_map and mean_activation: what the layers answer, worked out image by image and channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.pruning.criteria import feature_map, mean_activation
from tests.pipeline.pruning.criteria.peers import Plain, ours
from tests.pipeline.pruning.networks import IMAGES, Chain, Residual, lively

LABELS = torch.tensor([0, 1, 2, 3])
BATCHES = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]


def averages(maps: np.ndarray[Any, Any]) -> tuple[list[float], list[float]]:
    """The mean rank and the mean absolute value of each channel of (N, C, H, W)."""
    ranks, sizes = [], []
    for channel in range(maps.shape[1]):
        ranks.append(float(np.mean([np.linalg.matrix_rank(image[channel]) for image in maps])))
        total = sum(abs(float(value)) for image in maps for row in image[channel] for value in row)
        sizes.append(total / maps[:, channel].size)
    return ranks, sizes


def check(model: nn.Module, root: str, *maps: Tensor) -> None:
    """The criteria agree with the means over the maps of all layers that make the group."""
    by_hand = [averages(each.detach().numpy()) for each in maps]
    ranks, sizes = (np.mean([each[i] for each in by_hand], axis=0).tolist() for i in (0, 1))
    assert len(set(ranks)) > 1
    assert ours(model, root, feature_map, BATCHES).tolist() == pytest.approx(ranks)
    assert ours(model, root, mean_activation, BATCHES).tolist() == pytest.approx(sizes, rel=1e-5)


def test_maps_are_read_behind_norm_and_activation() -> None:
    model = lively(Plain(norm=True)).eval()
    with torch.no_grad():
        model.bn.bias -= torch.linspace(0, 3, 6)  # so that some maps are nearly dark
    check(model, "conv", torch.relu(model.bn(model.conv(IMAGES))))


def test_maps_of_a_branch_are_read_behind_the_addition_that_ends_it() -> None:
    torch.manual_seed(0)
    model = lively(Residual()).eval()
    for block in (model.block1, model.block2, model.block3):
        block.bn3.bias.data -= torch.linspace(0, 4, 16)
    first = model.block1(torch.relu(model.stem(IMAGES)))
    second = model.block2(first)
    # The projection ends in the same addition as the branch beside it.
    check(model, "block1.conv3", first, first, second, model.block3(second))


def test_a_linear_layers_figure_has_rank_one_where_it_is_not_zero() -> None:
    torch.manual_seed(0)
    model = lively(Chain()).eval()
    model.hidden.bias.data += torch.linspace(-2, 2, 12)
    x = functional.relu(model.bn1(model.conv1(IMAGES)))
    answers = functional.relu(model.hidden(torch.sigmoid(model.bn2(model.conv2(x))).flatten(1)))
    check(model, "hidden", answers[:, :, None, None])


def test_constant_maps_have_rank_one_and_dark_ones_none() -> None:
    model = Plain(norm=True).eval()
    model.conv.weight.data.zero_()
    model.bn.bias.data = torch.tensor([1.0, -1, 0, 2, -2, 3])
    assert ours(model, "conv", feature_map, BATCHES).tolist() == [1, 0, 0, 1, 0, 1]
    assert ours(model, "conv", mean_activation, BATCHES).tolist() == pytest.approx([1, 0, 0, 2, 0, 3])


def test_functions_that_are_given_weights_are_layers_as_well() -> None:
    class Functional(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(self.conv.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            x = functional.conv2d(x, self.kernel, padding=1)
            return self.fc(self.pool(torch.relu(x)).flatten(1))

    assert torch.equal(
        ours(Functional(), "kernel", mean_activation, BATCHES), ours(Plain(), "conv", mean_activation, BATCHES)
    )
