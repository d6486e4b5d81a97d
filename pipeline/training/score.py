"""Score of a network: its task's metric over a split, as torch answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pipeline import structures
from pipeline.objective.task import Judged, Task
from pipeline.structures import Inputs
from pipeline.training.accelerator import channels_last, device_of
from pipeline.training.feed import Images

BATCH = 256
"""Images at once that batch norm's statistics are averaged over, and channels are ranked by."""
_PIXELS = 4 * 224 * 224
"""Of the images that a CPU answers at once: the activations of more fit no cache."""


def score(model: nn.Module, examples: Images, task: Task, limit: int | None = None) -> float:
    """Return the task's metric over the first ``limit`` examples, or all; the model is left in eval mode.

    Raises:
        DataError: there are none.
        ConfigError: a function of the task fails.
    """
    channels_last(model).eval()
    device, judged = device_of(model), Judged(task)
    with torch.inference_mode():
        for batch, targets in examples.batches(BATCH, limit=limit):
            there = structures.mapped(batch, lambda tensor: tensor.to(device))
            done = 0
            for some in parts(there):
                until = done + structures.count(some)
                if until == done:
                    continue
                outputs = structures.mapped(structures.answer(model, some), torch.Tensor.cpu)
                judged.add(outputs, structures.part(targets, done, until))
                done = until
    return judged.score()


def parts(images: Inputs) -> Sequence[Inputs]:
    """Return a batch in the parts that a network answers soonest: on a CPU small ones, else one."""
    first = structures.arguments(images)[0]
    if first.device.type != "cpu":
        return [images]
    size = max(1, _PIXELS // max(1, first.shape[2:].numel()))
    if not isinstance(images, tuple):
        return torch.split(images, size)
    return [structures.part(images, start, start + size) for start in range(0, len(first), size)]
