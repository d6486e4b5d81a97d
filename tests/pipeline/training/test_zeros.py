"""Zeros stay zero while the rest is trained, also when the training is stopped and begun again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import StoppedError
from pipeline.pruning.reconstruction.batch_norm import accuracy, reestimate_batch_norm
from pipeline.pruning.surgery.weight_sparsity import set_to_zero, weights
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune
from tests.pipeline.training.images import Blobs, forgetful
from tests.pipeline.training.test_checkpoint import Memory, alike

HARD = FineTuning(epochs=4.0, batch_size=32, learning_rate=0.05, momentum=0.9, weight_decay=0.01, l1=1e-3,
                  l1_on="weights", patience=5, seed=1)  # fmt: skip


def thinned() -> nn.Module:
    model = forgetful()
    set_to_zero(model, dict.fromkeys(weights(model), 0.6))
    return model


def score(network: nn.Module) -> float:
    return accuracy(network, Blobs(40))


def train(model: nn.Module, slot: Memory | None = None, *, stop: int = 0, hold: bool = True) -> nn.Module:
    def on_step(step: int, *_: object) -> None:
        if step == stop:
            raise StoppedError("stopped")

    checkpoints = None if slot is None else Checkpoints(slot=slot, every_s=0)
    fine_tune(
        model, Blobs(97), HARD, teacher=forgetful(7), score=score, on_step=on_step, checkpoints=checkpoints,
        hold_zeros=hold,
    )  # fmt: skip
    return model


def test_zeros_stay_where_they_are_and_everything_else_learns() -> None:
    before, after = thinned(), train(thinned())
    reestimate_batch_norm(after, Blobs(97).batches(32))
    for name, weight in weights(after).items():
        zero = weights(before)[name] == 0
        assert 0.55 < zero.double().mean() < 0.65
        assert torch.equal(weight == 0, zero)
        assert not torch.equal(weight[~zero], weights(before)[name][~zero])


def test_without_being_held_they_come_back_to_life() -> None:
    after = train(thinned(), hold=False)
    assert all((weight != 0).all() for weight in weights(after).values())


def test_weights_that_happen_to_be_zero_are_held_and_biases_are_not() -> None:
    model = forgetful()
    before = [name for name, p in model.named_parameters() if p.dim() == 1 and bool((p == 0).all())]
    train(model)
    assert before
    assert all((dict(model.named_parameters())[name] != 0).any() for name in before)


@pytest.mark.parametrize("stop", [3, 10])
def test_stopped_and_begun_again_it_comes_to_the_same_bits(stop: int) -> None:
    straight, slot = train(thinned()).state_dict(), Memory()
    with pytest.raises(StoppedError):
        train(thinned(), slot, stop=stop)
    assert alike(train(thinned(), slot).state_dict(), straight)
