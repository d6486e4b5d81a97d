"""Training loss: the task's, mixed with distillation from the teacher's outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import structures
from pipeline.errors import CandidateError, DataError
from pipeline.objective.task import Task
from pipeline.structures import Inputs
from pipeline.training.settings import FineTuning


def loss_of(outputs: Any, targets: Any, taught: Any | None, settings: FineTuning, task: Task) -> Tensor:
    """Return the mean loss over a batch: (1 − mix)·task's loss + mix·task's distillation loss.

    Args:
        outputs: the network's, float32.
        targets: what the task's loss compares them with.
        taught: the teacher's outputs; None: there is no teacher.
        settings: say how much the teacher counts.
        task: what the network is trained for.

    Raises:
        ConfigError: a function of the task fails.
    """
    loss = task.loss_of(outputs, targets, label_smoothing=settings.label_smoothing)
    if taught is None:
        return loss
    distillation = task.distillation(outputs, taught, temperature=settings.temperature)
    return (1 - settings.teacher_mix) * loss + settings.teacher_mix * distillation


def in_float32(outputs: Any) -> Any:
    """Return outputs as a loss reads them, whatever precision they were computed in."""
    return structures.mapped(outputs, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def require_finite(value: float, what: str, images: Inputs, step: int, settings: FineTuning) -> None:
    """Raise where the loss or its gradient is no number any more; the images are looked at only then.

    Raises:
        DataError: the images hold values that are no numbers.
        CandidateError: the training diverged.
    """
    if math.isfinite(value):
        return
    if not all(bool(torch.isfinite(tensor).all()) for tensor in structures.arguments(images)):
        raise DataError(
            f"images in the batch of step {step} hold values that are not finite (nan or infinity); fix the data, and "
            "look for a standard deviation of 0 among what they are normalised with"
        )
    raise CandidateError(
        f"training diverged: the {what} is {value} at step {step}; "
        f"lower the learning rate (now {settings.learning_rate:g})"
    )


def require_finite_weights(model: nn.Module) -> None:
    """Raise CandidateError where a network cannot be trained, because its weights are no numbers from the start."""
    broken = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        raise CandidateError(
            f"weights are not finite before the first step: {', '.join(broken[:3])}; give sound weights, or train anew"
        )
