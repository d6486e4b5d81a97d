from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.pruning.classifier import classifier_of, fit_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


class Head(nn.Module):
    """Pooled features, a hidden layer, scores."""

    def __init__(self, after: nn.Module | None = None, *, tied: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.hidden, self.fc, self.after, self.twice = nn.Linear(3, 3), nn.Linear(3, 3), after, twice
        if tied:
            self.fc.weight = self.hidden.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(torch.relu(self.hidden(x.mean((2, 3)))))
        x = self.fc(x) if self.twice else x
        return x if self.after is None else self.after(x)


def test_the_classifier_is_the_linear_layer_that_gives_the_scores() -> None:
    network = fx.symbolic_trace(Head())
    assert classifier_of(network) is network.fc


@pytest.mark.parametrize(
    "network",
    [
        Head(nn.Softmax(1)), Head(tied=True), Head(twice=True),
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["softmax after it", "shares its weights", "used twice", "1x1 convolution"],
)  # fmt: skip
def test_what_is_no_plain_linear_of_its_own_is_left_alone(network: nn.Module) -> None:
    assert classifier_of(fx.symbolic_trace(network)) is None


def test_a_thinned_out_layer_keeps_its_zeros() -> None:
    network = fx.symbolic_trace(Head())
    with torch.no_grad():
        network.fc.weight[0, 1] = 0
    assert classifier_of(network) is None


def test_an_untraced_network_has_no_known_classifier() -> None:
    assert classifier_of(Head()) is None


def noisy(images: int, noise: float) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """Return a layer, what it gets, what it should say, and the weights with which it would."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(16, 4)
    inputs = torch.randn(images, 16, generator=generator)
    right = torch.randn(4, 16, generator=generator)
    return layer, inputs, inputs @ right.T + 1 + noise * torch.randn(images, 4, generator=generator), right


def test_what_can_be_said_exactly_is_said() -> None:
    layer, inputs, wanted, right = noisy(200, 0.0)
    fit_classifier(layer, inputs, wanted)
    torch.testing.assert_close(layer.weight, right, atol=0.02, rtol=0.02)
    torch.testing.assert_close(layer.bias, torch.ones(4), atol=0.02, rtol=0.02)
    assert layer.weight.dtype == torch.float32


def test_weights_that_are_right_stay_where_only_noise_says_otherwise() -> None:
    layer, inputs, wanted, right = noisy(40, 5.0)
    with torch.no_grad():
        layer.weight.copy_(right)
        layer.bias.fill_(1)
    fit_classifier(layer, inputs, wanted)
    least_squares = torch.linalg.lstsq(torch.cat([inputs, torch.ones(40, 1)], 1), wanted).solution[:-1].T
    assert (layer.weight - right).norm() < 0.5 * (least_squares - right).norm()


def test_a_layer_without_bias_gets_none() -> None:
    _, inputs, wanted, _ = noisy(200, 0.0)
    bare = nn.Linear(16, 4, bias=False)
    fit_classifier(bare, inputs, wanted - 1)
    torch.testing.assert_close(bare(inputs), wanted - 1, atol=0.1, rtol=0.1)
    assert bare.bias is None


@pytest.mark.parametrize(
    "spoilt",
    [lambda x: x[:31], torch.zeros_like, lambda x: x * torch.nan, lambda x: x * torch.inf],
    ids=["too few images", "all alike", "not a number", "infinite"],
)
def test_where_the_inputs_say_nothing_the_layer_stays(spoilt: Callable[[Tensor], Tensor]) -> None:
    layer, inputs, wanted, _ = noisy(40, 0.0)
    before = copy.deepcopy(layer.state_dict())
    seen = spoilt(inputs)
    fit_classifier(layer, seen, wanted[: len(seen)])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
