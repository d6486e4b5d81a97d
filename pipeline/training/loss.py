"""Training loss: cross entropy, mixed with distillation from the teacher's softened outputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import CandidateError, DataError
from pipeline.training.settings import FineTuning


def loss_of(scores: Tensor, labels: Tensor, taught: Tensor | None, settings: FineTuning) -> Tensor:
    """Return the mean loss over a batch; scores and answers are (N, classes), float32.

    (1 − mix)·CE + mix·T²·KL(teacher ‖ student), both softened by T: Hinton et al., 2015, section 2.
    """
    loss = functional.cross_entropy(scores, labels, label_smoothing=settings.label_smoothing)
    if taught is None:
        return loss
    t = settings.temperature
    distillation = functional.kl_div(
        functional.log_softmax(scores / t, 1),
        functional.log_softmax(taught / t, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - settings.teacher_mix) * loss + settings.teacher_mix * t * t * distillation


def require_finite(value: float, what: str, images: Tensor, step: int, settings: FineTuning) -> None:
    """Raise where the loss or its gradient is no number any more; the images are looked at only then.

    Raises:
        DataError: the images hold values that are no numbers.
        CandidateError: the training diverged.
    """
    if math.isfinite(value):
        return
    if not torch.isfinite(images).all():
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
