"""L1 sparsity training: what the loss does not need goes to zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.training.settings import FineTuning
from pipeline.training.sparsity import penalised, pull_towards_zero
from pipeline.training.trainer import fine_tune
from tests.pipeline.training.images import Blobs, Forgetful, forgetful

SETTINGS = FineTuning(epochs=20, batch_size=32, learning_rate=0.1, weight_decay=0.0, seed=1)


def trained(l1: float, on: Literal["batch_norm", "weights"] = "batch_norm") -> Forgetful:
    model = forgetful()
    fine_tune(model, Blobs(), replace(SETTINGS, l1=l1, l1_on=on))
    return model


def scales(model: Forgetful) -> torch.Tensor:
    return torch.cat([model.bn1.weight, model.bn2.weight]).detach().abs()


def weights(model: Forgetful) -> torch.Tensor:
    return torch.cat([m.weight.flatten() for m in (model.conv1, model.conv2, model.fc)]).detach().abs()


def test_scales_of_batch_norm_go_to_zero() -> None:
    without, penalty = scales(trained(0.0)), scales(trained(0.05))
    assert penalty.sum() < 0.7 * without.sum()
    assert int((penalty < 0.05).sum()) > int((without < 0.05).sum())


def test_weights_go_to_zero() -> None:
    without, penalty = weights(trained(0.0)), weights(trained(0.003, "weights"))
    assert penalty.sum() < 0.7 * without.sum()
    assert int((penalty < 0.01).sum()) > 1.5 * int((without < 0.01).sum())


def test_the_subgradient_is_the_sign_times_the_penalty() -> None:
    value = nn.Parameter(torch.tensor([2.0, -3.0, 0.0]))
    value.grad = torch.tensor([1.0, 1.0, 1.0])
    pull_towards_zero([value, nn.Parameter(torch.ones(1))], 0.1)
    torch.testing.assert_close(value.grad, torch.tensor([1.1, 0.9, 1.0]))


def test_only_what_is_named_is_pulled() -> None:
    model = forgetful()
    assert penalised(model, 0.0, "weights") == []
    assert {id(p) for p in penalised(model, 0.1, "batch_norm")} == {id(model.bn1.weight), id(model.bn2.weight)}
    assert {id(p) for p in penalised(model, 0.1, "weights")} == {
        id(m.weight) for m in (model.conv1, model.conv2, model.fc)
    }


@pytest.mark.parametrize("model", [nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, affine=False)])
def test_a_network_without_scales_cannot_be_slimmed(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"on: batch_norm, but the network has none .* on: weights"):
        penalised(model, 0.1, "batch_norm")
