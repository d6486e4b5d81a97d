from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import DataError
from pipeline.pruning.reconstruction.batch_norm import BATCH, accuracy, parts, reestimate_batch_norm
from tests.pipeline.pruning.networks import Chain, Residual, traced
from tests.pipeline.training.images import Blobs

pytestmark = pytest.mark.usefixtures("one_thread")


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


COLOUR = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("limit", [None, 300, 3])
def test_accuracy_is_the_share_of_right_answers(limit: int | None) -> None:
    data = Blobs(2 * BATCH + 50)
    right = (COLOUR(data.images).argmax(1) == data.labels)[:limit]
    assert accuracy(COLOUR, data, limit) == int(right.sum()) / len(right)


@pytest.mark.parametrize(("side", "sizes"), [(32, [196, 60]), (224, [4] * 64), (1024, [1] * 256)])
def test_a_cpu_answers_a_batch_in_parts_of_as_many_pixels(side: int, sizes: list[int]) -> None:
    images = torch.empty(256, 3, 1, 1).expand(256, 3, side, side)
    assert [len(part) for part in parts(images)] == sizes


def test_another_device_answers_a_batch_at_once() -> None:
    images = torch.empty(256, 3, 224, 224, device="meta")
    assert [len(part) for part in parts(images)] == [256]


def test_accuracy_needs_images() -> None:
    with pytest.raises(DataError, match="without images"):
        accuracy(COLOUR, Blobs(0))


def normed(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm)


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(4, momentum=None), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4).requires_grad_(False)],
    ids=["cumulative", "without scales", "frozen"],
)
def test_every_kind_of_batch_norm_is_reestimated_and_stays_what_it_was(norm: nn.BatchNorm2d) -> None:
    model, data = normed(norm), Blobs()
    momentum, learnt = norm.momentum, [p.requires_grad for p in norm.parameters()]
    reestimate_batch_norm(model, data.batches(96))
    with torch.no_grad():
        seen = model[0](data.images)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)))
    assert (norm.momentum, [p.requires_grad for p in norm.parameters()]) == (momentum, learnt)
    assert not norm.training


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, track_running_stats=True), nn.BatchNorm2d(4, track_running_stats=False)],
    ids=["group norm", "instance norm", "batch norm without statistics"],
)
def test_norms_without_statistics_over_batches_are_left_alone(norm: nn.Module) -> None:
    model = normed(norm).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reestimate_batch_norm(model, Blobs().batches(32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_one_image_is_enough_where_it_has_many_pixels() -> None:
    model, data = normed(nn.BatchNorm2d(4)), Blobs(1)
    reestimate_batch_norm(model, data.batches(32))
    with torch.no_grad():
        torch.testing.assert_close(model[1].running_mean, model[0](data.images).mean((0, 2, 3)))


def test_one_value_a_channel_is_too_few_and_the_norm_is_as_before() -> None:
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm)
    with pytest.raises(DataError, match=r"on one image .* give at least two"):
        reestimate_batch_norm(model, Blobs(1).batches(32))
    assert (norm.momentum, norm.training) == (0.1, False)


def test_a_last_batch_of_one_image_does_not_count() -> None:
    model, data = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3)), Blobs(33)
    reestimate_batch_norm(model, data.batches(32))
    torch.testing.assert_close(model[2].running_mean, data.images[:32].mean((0, 2, 3)))


def test_without_images_batch_norm_is_not_reset_in_silence() -> None:
    with pytest.raises(DataError, match="without images"):
        reestimate_batch_norm(normed(nn.BatchNorm2d(4)), iter([]))
