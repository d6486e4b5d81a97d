from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import CutError, ModelError
from pipeline.pruning.complexity import sparsity
from pipeline.pruning.surgery.weight_sparsity import THRESHOLDS, density, set_to_zero, spreads, weights


class Tiny(nn.Module):
    """Four weights of a convolution and two of a last layer, all known; a norm and biases beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 2)
        self.norm = nn.BatchNorm2d(1)
        self.fc = nn.Linear(2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[[[-1.0, 0.5], [0.25, 2.0]]]]))
            self.fc.weight.copy_(torch.tensor([[3.0, -3.0]]))


def test_a_threshold_is_in_standard_deviations_of_the_layers_own_weights() -> None:
    """σ of -1, 0.5, 0.25, 2 is 1.0645: α 0.2 is below 0.25 and 0.3 above, 0.5 takes two, 1.0 three, 1.9 all."""
    conv, fc = spreads(Tiny())
    assert (conv.name, conv.weights, fc.name, fc.weights) == ("conv.weight", 4, "fc.weight", 2)
    at = dict(zip(THRESHOLDS, conv.below, strict=True))
    assert [at[a] for a in (0.0, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0, 1.8, 1.9, 2.2)] == [
        0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1
    ]  # fmt: skip
    assert fc.below == (0.0,) * 11 + (1.0,) * 12  # σ of -3 and 3 is 3, and 3 is not below 1.0·3


def test_the_smallest_weights_become_zero_and_of_equals_the_first() -> None:
    network = Tiny()
    set_to_zero(network, {"conv.weight": 0.5, "fc.weight": 0.5})
    assert network.conv.weight.flatten().tolist() == [-1.0, 0.0, 0.0, 2.0]
    assert network.fc.weight.flatten().tolist() == [0.0, -3.0]
    assert sparsity(network) == 0.5


def test_a_share_takes_the_weights_that_its_threshold_was_above() -> None:
    """In a layout that lies otherwise in memory, too; and shares of a spread leave the density that it tells."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 6, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: weight.detach().clone() for name, weight in weights(network).items()}
    found = spreads(network)
    shares = [found[0].below[5], found[1].below[14]]
    set_to_zero(network, dict(zip(before, shares, strict=True)))
    for (name, weight), threshold in zip(weights(network).items(), (0.5, 1.4), strict=True):
        small = before[name].abs() < threshold * before[name].double().std(correction=0)
        assert torch.equal(weight, before[name].masked_fill(small, 0.0))
    assert 1 - sparsity(network) == pytest.approx(density(found, shares))


def test_weights_that_are_zero_already_count_as_below_every_threshold() -> None:
    network = Tiny()
    set_to_zero(network, {"conv.weight": 0.25})
    again = spreads(network)[0].below
    assert again[0] == 0.25
    set_to_zero(network, {"conv.weight": 0.5})
    assert network.conv.weight.flatten().tolist() == [-1.0, 0.0, 0.0, 2.0]


def test_protected_layers_are_left_alone() -> None:
    conv, fc = spreads(Tiny(), ("con*",))
    assert conv.below == (0.0,) * len(THRESHOLDS)
    assert fc.below[-1] == 1.0


def test_where_only_some_layers_may_change_all_others_are_left_alone() -> None:
    conv, fc = spreads(Tiny(), only=("con*",))
    assert fc.below == (0.0,) * len(THRESHOLDS)
    assert conv.below[-1] == 1.0


def test_what_cannot_be_set_to_zero_is_told() -> None:
    with pytest.raises(ModelError, match=r"Tiny has no weights 'head.weight', of which 20.0% are to be zero"):
        set_to_zero(Tiny(), {"head.weight": 0.2})
    with pytest.raises(CutError, match=r"conv.weight: 1.5 of its weights are to be zero; a share is between 0 and 1"):
        set_to_zero(Tiny(), {"conv.weight": 1.5})
    network = Tiny()
    nn.init.constant_(network.fc.weight, float("nan"))
    with pytest.raises(ModelError, match=r"fc.weight holds values that are not finite"):
        spreads(network)
