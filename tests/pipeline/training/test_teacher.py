"""The teacher: asked once for each view, folded without changing what it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline import structures
from pipeline.training.accelerator import cpu
from pipeline.training.feed import Feed
from pipeline.training.settings import FineTuning
from pipeline.training.teacher import Teacher, with_folded_norms
from pipeline.training.trainer import fine_tune
from tests.pipeline.pruning.networks import IMAGES, Chain, Residual, Tied, traced
from tests.pipeline.training.images import Blobs, forgetful

pytestmark = pytest.mark.usefixtures("one_thread")


class Counted(nn.Module):
    """A teacher that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.asked = forgetful(7), 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return self.inner(x)


class Two(nn.Module):
    """Of two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.asked = forgetful(7), 0

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        self.asked += 1
        return {"scores": self.inner(x), "sums": [x.sum((1, 2, 3)), y + 1]}


def test_answers_of_any_structure_are_kept() -> None:
    network = Two()
    teacher = Teacher(network, cpu())
    x = next(Blobs().batches(8))[0]
    first, again = (teacher.answers((x, torch.zeros(8, 2)), (0, 1)) for _ in range(2))
    assert network.asked == 1
    assert [*structures.tensors(first)] == [("scores",), ("sums", 0), ("sums", 1)]
    for one, other in zip(structures.tensors(first).values(), structures.tensors(again).values(), strict=True):
        assert torch.equal(one, other)
    without = Teacher(network, cpu(), kept_bytes=0)
    assert torch.equal(without.answers((x, torch.zeros(8, 2)), (0, 1))["scores"], first["scores"])


@pytest.mark.parametrize(("views", "asked"), [(0, 15), (2, 6), (9, 15)])
def test_passes_after_the_views_ask_nothing(views: int, asked: int) -> None:
    teacher = Counted()
    fine_tune(forgetful(), Blobs(), FineTuning(epochs=5, batch_size=32, teacher_views=views), teacher=teacher)
    assert teacher.asked == asked


def test_the_views_repeat_in_order_and_differ_from_each_other() -> None:
    feed = Feed(Blobs(), 32, seed=3, views=2)
    taken = [(feed.take()[0], feed.view) for _ in range(12)]
    assert [view for _, view in taken[:7]] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (0, 1)]
    for (one, name), (other, again) in zip(taken[:6], taken[6:], strict=True):
        assert name == again
        assert torch.equal(one, other)
    assert not torch.equal(taken[0][0], taken[3][0])


def test_without_room_for_its_answers_it_is_asked_anew_and_nothing_changes() -> None:
    network, x = Counted().eval(), Blobs().images[:8]
    keeping, forgetting = Teacher(network, cpu()), Teacher(network, cpu(), kept_bytes=0)
    first = [keeping.answers(x, (0, 1)) for _ in range(3)]
    assert network.asked == 1
    second = [forgetting.answers(x, (0, 1)) for _ in range(3)]
    assert network.asked == 4
    assert all(torch.equal(first[0], other) for other in first + second)


def test_answers_can_be_learnt_from_and_are_nobody_elses() -> None:
    teacher = Teacher(traced(Chain), cpu())
    answers = teacher.answers(IMAGES, (0, 1))
    answers.zero_()
    assert teacher.answers(IMAGES, (0, 1)).abs().sum() > 0
    assert not answers.is_inference()


@pytest.mark.parametrize("kind", [Chain, Residual, Tied])
def test_folded_norms_answer_alike_and_the_network_is_left_as_it_is(kind: type[nn.Module]) -> None:
    network = traced(kind)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    known = {name: value.clone() for name, value in network.state_dict().items()}
    folded = with_folded_norms(network)
    torch.testing.assert_close(folded(IMAGES), network.eval()(IMAGES), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, known[name]) for name, value in network.state_dict().items())


def test_batch_norms_are_really_folded() -> None:
    called = {node.target for node in with_folded_norms(traced(Residual)).graph.nodes if node.op == "call_module"}
    layers = dict(traced(Residual).named_modules())
    assert not [name for name in called if isinstance(layers[str(name)], nn.BatchNorm2d)]


def test_views_change_the_order_of_passes_and_nothing_else() -> None:
    settings = FineTuning(epochs=1, batch_size=32, learning_rate=0.05)
    one, other = forgetful(), forgetful()
    fine_tune(one, Blobs(), replace(settings, teacher_views=3))
    fine_tune(other, Blobs(), replace(settings, teacher_views=3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
