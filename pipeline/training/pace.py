"""Pace of a training: what a step takes, tried out on copies before it begins, in full and in half precision."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from pipeline import structures
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.structures import Inputs
from pipeline.training.accelerator import Accelerator, channels_last
from pipeline.training.feed import Batch, Images
from pipeline.training.loss import in_float32, loss_of
from pipeline.training.settings import FineTuning
from pipeline.training.teacher import ready_to_ask

_FIRST_IMAGES = 8
_TRIAL_S = 0.25
"""A trial step has as many images as fit into so much time."""
_ROUNDS = 3
_CLEARLY = 1.1
"""Half precision is left only for what is so much faster: what is about as fast must not be decided by chance."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was found."""

    half_is_faster: bool
    """Whether half precision is, where the accelerator has it."""
    step_s: float
    """Seconds of a gradient step in the faster one, without the teacher."""
    teacher_s: float
    """And of the teacher's answers to its images."""


def measure_pace(
    model: nn.Module,
    images: Images,
    settings: FineTuning,
    on: Accelerator,
    teacher: nn.Module | None = None,
    task: Task | None = None,
) -> Pace:
    """Try out a few steps in about a second; networks and the global generators stay as they are.

    Args:
        task: whose loss is learnt by; None: classification.
    """
    with on.seeded(settings.seed):
        first = next(iter(images.batches(settings.batch_size)))
        pupil = channels_last(copy.deepcopy(model)).to(on.device).train()
        asked = None if teacher is None else ready_to_ask(teacher, on)
        batch: Batch = structures.mapped(first, on.here)
        learn = partial(_step, pupil, settings=settings, task=task or classification())
        most = structures.count(batch[0])
        count = _images_in_time(learn, batch, most, on)
        part: Batch = structures.part(batch, 0, count)
        scale = most / count
        choices = [on] if on.half is None else [on, replace(on, half=None)]
        steps: list[list[_Times]] = [[] for _ in choices]
        for _ in range(_ROUNDS):  # in turns: what else the machine does meanwhile then slows all alike
            for choice, times in zip(choices, steps, strict=True):
                times.append(_timed(partial(learn, part, choice), on))
        work = [min(times.work_s for times in each) for each in steps]
        half = on.half is not None and work[0] <= _CLEARLY * work[-1]
        chosen, taken = (on, steps[0]) if half else (choices[-1], steps[-1])
        asking = [] if asked is None else [_timed(partial(_ask, asked, part[0], chosen), on) for _ in range(2)]
    return Pace(half, scale * _typical(taken), scale * _typical(asking))


def _images_in_time(learn: Callable[[Batch, Accelerator], None], batch: Batch, most: int, on: Accelerator) -> int:
    few: Batch = structures.part(batch, 0, _FIRST_IMAGES)
    count = structures.count(few[0])
    learn(few, on)  # the first one makes ready
    seconds = _timed(partial(learn, few, on), on).clock_s
    return min(most, max(count, int(count * _TRIAL_S / max(seconds, 1e-6))))


def _step(model: nn.Module, batch: Batch, on: Accelerator, *, settings: FineTuning, task: Task) -> None:
    x, y = batch
    with on.autocast():
        outputs = structures.answer(model, x)
    loss_of(in_float32(outputs), y, None, settings, task).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def _ask(teacher: nn.Module, x: Inputs, on: Accelerator) -> None:
    with on.autocast(), torch.inference_mode():
        structures.answer(teacher, x)


class _Times(NamedTuple):
    work_s: float
    """Of this process's threads on a CPU: what other processes do meanwhile has no part in it."""
    clock_s: float


def _timed(work: Callable[[], None], on: Accelerator) -> _Times:
    worked, start = time.process_time(), time.perf_counter()
    work()
    if on.device.type == "cuda":
        torch.cuda.synchronize(on.device)
    clock_s = time.perf_counter() - start
    return _Times(time.process_time() - worked if on.device.type == "cpu" else clock_s, clock_s)


def _typical(times: Sequence[_Times]) -> float:
    """Return the median on the clock: a machine that others use is told as it is."""
    return statistics.median(each.clock_s for each in times) if times else 0.0
