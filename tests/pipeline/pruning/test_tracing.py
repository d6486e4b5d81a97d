from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.pruning.tracing import trace
from tests.pipeline.pruning.networks import IMAGES, Chain


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class TwoHeads(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x.amax((2, 3))


class Maps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_parameter_names_stay_and_the_network_is_in_eval_mode() -> None:
    model = Chain().train()
    traced = trace(model, IMAGES)
    assert list(traced.state_dict()) == list(model.state_dict())
    assert not any(module.training for module in traced.modules())


def test_a_forward_that_branches_on_its_input_is_told_what_to_change() -> None:
    with pytest.raises(ModelError, match=r"Branching cannot be traced: .*must not branch on the input's values"):
        trace(Branching(), IMAGES)


def test_an_input_that_does_not_fit_is_told_with_the_cause_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(4, 1, 8, 8\): .*channels") as caught:
        trace(Chain(), torch.zeros(4, 1, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [TwoHeads, Maps])
def test_a_model_must_answer_with_one_score_a_class(kind: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match=r"must return one tensor of class scores, \(N, classes\)"):
        trace(kind(), IMAGES)
