"""Segmentation: a class for each pixel; cross entropy, and the mean intersection over union of the classes (mean IoU).

Outputs are scores, (N, classes, H, W), or a dictionary with them under ``out``, as torchvision's networks answer; of a
smaller map than the targets they are scaled up. Targets are int64 (N, H, W); 255 is no class: such pixels count for
nothing, as in Pascal VOC. The intersections and unions are summed over the whole split before they are divided, and
classes that neither the targets nor the predictions have are left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

METRIC = "mean IoU"
IGNORED = 255
"""A pixel of no class."""


def collate(targets: Any) -> Tensor:
    """Return masks, (H, W) each, as int64 (N, H, W)."""
    return torch.stack([torch.as_tensor(mask) for mask in targets]).to(torch.int64)


def select(outputs: Any) -> Tensor:
    """Return the scores: of a dictionary what stands under ``out``."""
    scores: Tensor = outputs["out"] if isinstance(outputs, dict) else outputs
    return scores


def loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy over the pixels that have a class."""
    scores = _as_large_as(outputs, targets)
    return functional.cross_entropy(scores, targets, ignore_index=IGNORED, label_smoothing=label_smoothing)


def teacher_loss(outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T²·KL(teacher ‖ student), both softened by T, the mean over the pixels."""
    divergence = functional.kl_div(
        functional.log_softmax(outputs / temperature, 1),
        functional.log_softmax(taught / temperature, 1),
        reduction="none",
        log_target=True,
    )
    return temperature * temperature * divergence.sum(1).mean()


def postprocess(outputs: Tensor) -> Tensor:
    """Return the class of each pixel's highest score, uint8 (N, H, W), or int64 of more than 255 classes."""
    return outputs.argmax(1).to(torch.uint8 if outputs.shape[1] <= IGNORED else torch.int64)


def metric(predictions: Tensor, targets: Tensor) -> float:
    """Return the mean IoU of the classes that there are."""
    if predictions.shape[1:] != targets.shape[1:]:
        larger = functional.interpolate(predictions[:, None].float(), targets.shape[1:], mode="nearest")
        predictions = larger[:, 0].to(torch.int64)
    counted = targets != IGNORED
    found, wanted = predictions[counted].to(torch.int64), targets[counted]
    classes = int(max(found.max(), wanted.max())) + 1 if len(wanted) else 1
    pairs = torch.bincount(wanted * classes + found, minlength=classes * classes).reshape(classes, classes)
    both = pairs.diagonal().double()
    either = pairs.sum(0) + pairs.sum(1) - both
    there = either > 0
    return float((both[there] / either[there]).mean()) if bool(there.any()) else 0.0


def _as_large_as(scores: Tensor, targets: Tensor) -> Tensor:
    if scores.shape[2:] == targets.shape[1:]:
        return scores
    return functional.interpolate(scores, targets.shape[1:], mode="bilinear", align_corners=False)
