"""After the cut: batch norm re-estimated, weights fine-tuned with the base network as teacher, accuracy read.

The fine-tuning itself is ``pipeline.training``'s, which trains base models just the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import DataError
from pipeline.training.accelerator import channels_last, device_of
from pipeline.training.feed import Batch, Images
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune

__all__ = ["BATCH", "READ_BATCH", "Batch", "FineTuning", "Images", "accuracy", "fine_tune", "reestimate_batch_norm"]

BATCH = 256
"""Images at once that batch norm's statistics are averaged over, and channels are ranked by."""
READ_BATCH = 100
"""Images at once where only answers are read: 256, whose activations fit no cache, take a CIFAR ResNet 15 % longer an
image, 500 take it 40 % longer."""


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Replace batch norm's running statistics by the mean over ``batches``, in place; the weights stay.

    The single cheapest gain after a cut (Li et al., EagleEye, 2020): without it the accuracy says little. A batch of
    one image counts only where it is the first: a variance over it says little beside the others', or nothing.

    Raises:
        DataError: no images, or a single one where a norm sees one value a channel and so no variance.
    """
    channels_last(model).eval()  # nearly twice as fast on a CPU
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    with torch.no_grad(), _averaging(norms):
        seen = 0
        for images, _ in batches:
            if len(images) > 1 or seen == 0:
                _observe(model, images)
                seen += len(images)
    if seen == 0:
        raise DataError("batch norm cannot be re-estimated without images; give at least two")


def accuracy(model: nn.Module, images: Images, limit: int | None = None) -> float:
    """Return the share of images, the first ``limit`` or all, whose highest score is their label's.

    Raises:
        DataError: there are none.
    """
    channels_last(model).eval()
    device = device_of(model)
    right = seen = 0
    with torch.inference_mode():
        for batch, labels in images.batches(READ_BATCH, limit=limit):
            right += int((model(batch.to(device)).argmax(1) == labels.to(device)).sum())
            seen += len(labels)
    if seen == 0:
        raise DataError("an accuracy cannot be read without images; give at least one")
    return right / seen


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let the norms take a plain mean over what they see in the block; then they stand still again, however it ends."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _observe(model: nn.Module, images: torch.Tensor) -> None:
    try:
        model(images)
    except ValueError as error:  # torch's "Expected more than 1 value per channel when training"
        if len(images) > 1:
            raise
        raise DataError(f"batch norm cannot be re-estimated on one image ({error}); give at least two") from error
