from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline import structures
from pipeline.errors import CandidateError, ConfigError, DataError
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune
from tests.pipeline.pruning.networks import Chain, Residual, traced
from tests.pipeline.training.images import Blobs, forgetful

SETTINGS = FineTuning(epochs=4.0, batch_size=32, learning_rate=0.05, seed=1)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_fine_tuning_learns_and_says_how_it_goes() -> None:
    model, data, told = traced(Residual), Blobs(), []
    before = accuracy(model, data)
    fine_tune(model, data, SETTINGS, on_step=lambda step, steps, loss: told.append((step, steps, loss)))
    assert accuracy(model, data) > before + 0.2
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


def test_what_a_network_sees_may_be_varied_while_its_teacher_sees_the_images_themselves() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = traced(Residual)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            answer: Tensor = self.inner(x)
            return answer

    varied: list[tuple[int, Tensor]] = []

    def vary(x: structures.Inputs, step: int) -> Tensor:
        assert isinstance(x, Tensor)
        varied.append((step, x.clone()))
        return torch.zeros_like(x)

    pupil = traced(Residual)
    fine_tune(pupil, Blobs(), SETTINGS, teacher=Watching(), vary=vary)
    assert [step for step, _ in varied] == list(range(1, 13))
    assert all(torch.equal(taught, x) for taught, (_, x) in zip(seen, varied, strict=True))
    before = accuracy(traced(Residual), Blobs())
    assert accuracy(pupil, Blobs()) < before + 0.2  # of images that are all black nothing can be learnt


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
    wild = replace(SETTINGS, learning_rate=1e30, warmup=0.0)
    with pytest.raises(
        CandidateError, match=r"diverged: the .* is (nan|inf) at step \d; lower the learning rate \(now 1e\+30\)"
    ):
        fine_tune(traced(Chain), Blobs(), wild)


def test_weights_that_are_no_numbers_are_named_before_the_first_step() -> None:
    model = traced(Chain)
    model.fc.weight.data.fill_(float("inf"))
    with pytest.raises(CandidateError, match=r"not finite before the first step: fc\.weight;"):
        fine_tune(model, Blobs(), SETTINGS)


def test_images_that_are_no_numbers_are_told_apart_from_a_training_that_diverges() -> None:
    data = Blobs()
    data.images[50, 1, 2, 3] = float("nan")
    with pytest.raises(DataError, match=r"images in the batch of step \d hold values that are not finite"):
        fine_tune(traced(Chain), data, SETTINGS)


class Hungry(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (torch.empty(2**50).sum() if self.training else 0)


def test_without_memory_the_batch_size_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no room in the memory of cpu .* batches of 32 images; lower batch_size"):
        fine_tune(Hungry(), Blobs(), SETTINGS)


class HungryOnGpu(Chain):
    def forward(self, _: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_gpu_without_memory_is_told_alike() -> None:
    with pytest.raises(ConfigError, match="lower batch_size under fine_tuning"):
        fine_tune(HungryOnGpu(), Blobs(), SETTINGS)


class Broken(Chain):
    def forward(self, _: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")


def test_other_errors_of_a_network_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fine_tune(Broken(), Blobs(), SETTINGS)


def test_a_batch_of_one_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 1"):
        FineTuning(batch_size=1)


def test_momentum_may_be_none() -> None:
    model, data = traced(Residual), Blobs()
    before = accuracy(model, data)
    fine_tune(model, data, replace(SETTINGS, momentum=0.0, learning_rate=0.2))
    assert accuracy(model, data) > before + 0.2


# ---------------------------------------------------------------- early stopping


def test_early_stopping_keeps_the_best_weights_and_ends() -> None:
    scores = iter([0.3, 0.7, 0.6, 0.7, 0.9])
    seen: list[dict[str, Tensor]] = []

    def score(network: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(scores)

    model, steps = forgetful(), []
    told = replace(SETTINGS, epochs=10, patience=2, evaluate_every=1.0)
    went = fine_tune(model, Blobs(), told, score=score, on_step=lambda step, *_: steps.append(step))
    assert (went.steps, went.ended, went.best_step, went.best_score) == (30, 12, 6, 0.7)
    assert steps[-1] == 12
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())


def test_a_network_is_trained_on_after_it_was_evaluated() -> None:
    modes: list[bool] = []

    class Watched(Chain):
        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(x)

    def score(network: nn.Module) -> float:
        return accuracy(network, Blobs())

    fine_tune(Watched(), Blobs(), replace(SETTINGS, epochs=2, patience=9), score=score)
    assert modes == [True] * 3 + [False] + [True] * 3 + [False]


def test_without_patience_nothing_is_evaluated() -> None:
    def score(network: nn.Module) -> float:
        raise AssertionError

    assert fine_tune(traced(Chain), Blobs(), SETTINGS, score=score).best_step is None


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
