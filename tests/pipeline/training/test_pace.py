"""What a step takes, and in which precision, tried out without a trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.objective.load import load_task
from pipeline.training.accelerator import Accelerator, cpu
from pipeline.training.feed import Batch
from pipeline.training.pace import measure_pace
from pipeline.training.settings import FineTuning
from tests.pipeline.training.images import Blobs, forgetful

SETTINGS = FineTuning(batch_size=32)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_a_pace_is_measured_and_everything_stays_as_it_was(half: torch.dtype | None) -> None:
    model, teacher, draws = forgetful(), forgetful(7), torch.get_rng_state()
    before = copy.deepcopy(model.state_dict())
    pace = measure_pace(model, Blobs(), SETTINGS, Accelerator(torch.device("cpu"), half), teacher)
    assert 0 < pace.step_s < 5
    assert 0 < pace.teacher_s < 5
    assert not (half is None and pace.half_is_faster)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), draws)


def test_without_a_teacher_nobody_is_asked() -> None:
    assert measure_pace(forgetful(), Blobs(), SETTINGS, replace(cpu(), half=None)).teacher_s == 0


class Pairs:
    """Of two inputs and a number to answer."""

    def __len__(self) -> int:
        return 64

    def batches(self, batch_size: int, **_: object) -> Iterator[Batch]:
        x, y = next(iter(Blobs().batches(batch_size)))
        yield (x, torch.ones(len(x), 1)), y[:, None].float()


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.LazyLinear(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.last(torch.cat([x.flatten(1), y], 1))
        return found


def test_networks_of_another_task_have_a_pace() -> None:
    model = Joined()
    model(*next(Pairs().batches(2))[0])
    pace = measure_pace(model, Pairs(), SETTINGS, cpu(), copy.deepcopy(model), load_task("regression"))
    assert 0 < pace.step_s < 5
    assert 0 < pace.teacher_s < 5
