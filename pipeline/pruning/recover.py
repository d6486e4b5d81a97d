"""After the cut: batch norm re-estimated, the classifier fitted anew, weights fine-tuned, accuracy read.

The fine-tuning itself is ``pipeline.training``'s, which trains base models just the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import DataError
from pipeline.pruning.classifier import classifier_of, fit_classifier
from pipeline.training.accelerator import channels_last, device_of
from pipeline.training.feed import Batch, Images
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune

__all__ = ["Batch", "FineTuning", "Images", "accuracy", "answers_of", "fine_tune", "recover"]


def recover(model: nn.Module, batches: Iterable[Batch], answers: Tensor | None = None) -> None:
    """Mend a network after a cut, in place, by one pass over ``batches``; no label is looked at.

    Batch norm's running statistics are replaced by the mean over the batches, the single cheapest gain after a cut
    (Li et al., EagleEye, 2020): without it the accuracy says little. The classifier is fitted to what the network
    answered before the cut, see :mod:`pipeline.pruning.classifier`. All other weights stay. A batch of one image
    counts only where it is the first: a variance over it says little beside the others', or nothing.

    Args:
        model: the network that was cut.
        batches: training images.
        answers: what the network before the cut answers to them, (images, classes), by :func:`answers_of`; None: the
            classifier stays as it is.

    Raises:
        DataError: no images, or a single one where a norm sees one value a channel and so no variance.
    """
    channels_last(model).eval()  # nearly twice as fast on a CPU
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    classifier = None if answers is None else classifier_of(model)
    if not norms and classifier is None:
        return
    seen: list[Tensor] = []
    with torch.no_grad(), _averaging(norms), _inputs_of(classifier, seen):
        images_seen = 0
        for images in _counted(batches):
            _observe(model, images)
            images_seen += len(images)
    if images_seen == 0:
        raise DataError("batch norm cannot be re-estimated without images; give at least two")
    if classifier is not None and answers is not None:
        fit_classifier(classifier, torch.cat(seen), answers)


def answers_of(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Return the scores that a network gives to the images that :func:`recover` looks at, (images, classes)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(images) for images in _counted(batches)])


def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Return the share of images whose highest score is their label's; DataError where there are no images."""
    channels_last(model).eval()
    device = device_of(model)
    right = seen = 0
    with torch.inference_mode():
        for images, labels in batches:
            right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
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


@contextmanager
def _inputs_of(classifier: nn.Linear | None, seen: list[Tensor]) -> Iterator[None]:
    """Let ``seen`` grow by what the classifier gets in the block."""
    if classifier is None:
        yield
        return
    hook = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield
    finally:
        hook.remove()


def _counted(batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Yield the batches' images, but for one that comes alone after others."""
    for place, (images, _) in enumerate(batches):
        if len(images) > 1 or place == 0:
            yield images


def _observe(model: nn.Module, images: Tensor) -> None:
    try:
        model(images)
    except ValueError as error:  # torch's "Expected more than 1 value per channel when training"
        if len(images) > 1:
            raise
        raise DataError(f"batch norm cannot be re-estimated on one image ({error}); give at least two") from error
