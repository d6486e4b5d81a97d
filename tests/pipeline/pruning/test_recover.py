from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import CandidateError, DataError
from pipeline.pruning.recover import FineTuning, accuracy, fine_tune, reestimate_batch_norm
from tests.pipeline.pruning.networks import Chain, Residual, traced


class Blobs:
    """Images whose class is their colour: learnable in a few steps."""

    def __init__(self, count: int = 96) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % 5
        self.images = torch.randn(count, 3, 8, 8, generator=generator)
        self.images += 2 * torch.randn(5, 3, 1, 1, generator=generator)[self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,  # noqa: ARG002 - part of the protocol
        limit: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self), generator=generator) if generator else torch.arange(len(self))
        for part in order[:limit].split(batch_size):
            yield self.images[part], self.labels[part]


SETTINGS = FineTuning(epochs=4.0, batch_size=32, learning_rate=0.05, seed=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_batch_norm_becomes_the_plain_mean_over_the_batches() -> None:
    model, data = traced(Chain), Blobs()
    momentum = model.bn1.momentum
    with torch.no_grad():
        inputs = [model.conv1(x) for x, _ in data.batches(32)]
    reestimate_batch_norm(model, data.batches(32))
    torch.testing.assert_close(model.bn1.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    torch.testing.assert_close(model.bn1.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))
    assert model.bn1.momentum == momentum
    assert not any(module.training for module in model.modules())


def test_reestimating_changes_no_weight_and_needs_no_batch_norm() -> None:
    model = traced(Residual)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    reestimate_batch_norm(model, Blobs().batches(32))
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    reestimate_batch_norm(nn.Linear(3, 2), iter([]))


def test_accuracy_is_the_share_of_right_answers() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert accuracy(nn.Identity(), [(scores[:3], labels[:3]), (scores[3:], labels[3:])]) == 0.75


def test_fine_tuning_learns_and_says_how_it_goes() -> None:
    model, data, told = traced(Residual), Blobs(), []
    before = accuracy(model, data.batches(32))
    fine_tune(model, data, SETTINGS, on_step=lambda step, steps, loss: told.append((step, steps, loss)))
    assert accuracy(model, data.batches(32)) > before + 0.2
    assert [step for step, _, _ in told] == list(range(1, 13))
    assert {steps for _, steps, _ in told} == {12}
    assert sum(loss for *_, loss in told[-3:]) < sum(loss for *_, loss in told[:3])
    assert not model.training


def test_a_teacher_is_learnt_from_and_never_changed() -> None:
    data, teacher, pupil = Blobs(), traced(Residual), traced(Residual)
    fine_tune(teacher, data, replace(SETTINGS, epochs=8.0))
    known = {name: value.clone() for name, value in teacher.state_dict().items()}

    def distance() -> float:
        with torch.no_grad():
            x = data.images
            return float((pupil.eval()(x).softmax(1) - teacher(x).softmax(1)).abs().mean())

    before = distance()
    fine_tune(pupil, data, replace(SETTINGS, teacher_mix=1.0), teacher=teacher)
    assert distance() < before
    assert all(torch.equal(value, known[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_same_seed_gives_the_same_weights_and_the_global_generator_is_left_alone() -> None:
    one, other, third = (traced(Residual) for _ in range(3))
    state = torch.get_rng_state()
    fine_tune(one, Blobs(), SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    fine_tune(other, Blobs(), SETTINGS)
    fine_tune(third, Blobs(), replace(SETTINGS, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.fc.weight, third.fc.weight)


def test_epochs_may_be_a_fraction_and_small_sets_are_passed_over_more_often() -> None:
    assert FineTuning(epochs=0.5, batch_size=10).steps(100) == 5
    assert FineTuning(epochs=0.01, batch_size=10).steps(100) == 1
    assert FineTuning(epochs=1, batch_size=10, min_steps=40).steps(95) == 40
    steps: list[int] = []
    fine_tune(traced(Chain), Blobs(40), replace(SETTINGS, epochs=0.5), on_step=lambda step, *_: steps.append(step))
    assert steps == [1]


def test_batches_of_a_single_image_are_passed_over() -> None:
    model, steps = traced(Chain), []
    fine_tune(model, Blobs(33), SETTINGS, on_step=lambda step, *_: steps.append(step))
    assert len(steps) == 8
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="at least two images, found 1"):
        fine_tune(traced(Chain), Blobs(1), SETTINGS)


def test_a_training_that_diverges_is_told_with_its_learning_rate() -> None:
    model = traced(Chain)
    model.fc.weight.data.fill_(float("inf"))
    with pytest.raises(
        CandidateError, match=r"diverged: the loss is (nan|inf) at step 1; lower the learning rate \(now 0.05\)"
    ):
        fine_tune(model, Blobs(), SETTINGS)


def test_half_precision_is_used_only_where_the_processor_has_it() -> None:
    seen: list[torch.dtype] = []

    class Probe(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x.mean((2, 3)))
            seen.append(scores.dtype)
            return scores

    fine_tune(Probe(3, 5), Blobs(), replace(SETTINGS, epochs=0.3))
    able = torch.cpu.get_capabilities()
    expected = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    assert set(seen) == {expected}


def test_weights_decay_but_biases_and_norms_do_not() -> None:
    model, untouched = traced(Chain), copy.deepcopy(traced(Chain))
    model.bn1.weight.data.fill_(1.0)
    still = replace(SETTINGS, learning_rate=1e-9, weight_decay=0.5)
    fine_tune(model, Blobs(), still)
    torch.testing.assert_close(model.bn1.weight, torch.ones(8))
    torch.testing.assert_close(model.fc.weight, untouched.fc.weight)
