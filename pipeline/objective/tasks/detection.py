"""Detection as single-shot detectors do it (Liu et al., SSD, 2016): boxes and classes for each of many fixed anchors.

The network answers with a dictionary, as torchvision's ``SSDHead`` does: ``bbox_regression``, (N, anchors, 4), how far
each box lies from its anchor, and ``cls_logits``, (N, anchors, classes), where class 0 is the background. Targets are
torchvision's: a dictionary for each image with ``boxes``, float (boxes, 4), left, top, right and bottom in pixels, and
``labels``, int64 (boxes,), from 1 on. Which anchors there are is the network's own, so that a task is made with them,
in a file of one's own: ``TASK = Detection(anchors)``.

The metric is COCO's mean average precision over IoU thresholds from 0.5 to 0.95, as torchmetrics reads it (the extra
``detection`` installs it). Decoding and non-maximum suppression are the task's, on the host: the exported file is the
network alone.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ConfigError

Boxes = Mapping[str, Tensor]
"""Of one image: boxes, labels and, of predictions, scores."""

_CENTRES, _SIZES = 10.0, 5.0
"""Scales of the regression targets, those of the paper's code: the inverse of its variances, 0.1 and 0.2."""
_LARGEST = math.log(1000 / 16)
"""Largest logarithm of a box's size over its anchor's, as torchvision has it."""
_MATCHED = 0.5
"""Overlap (IoU) from which on an anchor is answerable for a box; the best one of each box always is."""


@dataclass(frozen=True, eq=False)
class Detection:
    """The task for one set of anchors."""

    anchors: Tensor
    """float (anchors, 4): left, top, right, bottom in pixels, in the order of the network's answers."""
    negatives: float = 3.0
    """Background anchors that count for each one that has a box: those that the network is most wrong about."""
    least_score: float = 0.05
    overlap: float = 0.45
    """IoU from which on the lower of two boxes of one class is left out."""
    most: int = 100
    """Boxes of an image that are kept."""

    METRIC = "mAP"

    def select(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is learnt: a detector's other outputs are left out."""
        return {name: outputs[name] for name in ("bbox_regression", "cls_logits")}

    def collate(self, targets: Sequence[Boxes]) -> list[Boxes]:
        """Return the images' targets as a list: each has its own number of boxes."""
        return [{name: torch.as_tensor(target[name]) for name in ("boxes", "labels")} for target in targets]

    def loss(self, outputs: Mapping[str, Tensor], targets: Sequence[Boxes]) -> Tensor:
        """Return the regression loss of the matched anchors and the class loss of these and the hardest others.

        Both are over the number of matched anchors: SSD, equation 1, with α = 1.
        """
        matched = [self._matched(target, outputs["cls_logits"].device) for target in targets]
        labels, wanted = (torch.stack(parts) for parts in zip(*matched, strict=True))
        positive = labels > 0
        boxes = functional.smooth_l1_loss(outputs["bbox_regression"][positive], wanted[positive], reduction="sum")
        each = functional.cross_entropy(outputs["cls_logits"].flatten(0, 1), labels.flatten(), reduction="none")
        each = each.reshape(labels.shape)
        others = each.detach().masked_fill(positive, -math.inf)
        rank = others.argsort(1, descending=True).argsort(1)
        hard = rank < self.negatives * positive.sum(1, keepdim=True)
        return (boxes + each[positive | (hard & ~positive)].sum()) / max(1, int(positive.sum()))

    def teacher_loss(self, outputs: Mapping[str, Tensor], taught: Mapping[str, Tensor], temperature: float) -> Tensor:
        """Return T²·KL of the classes, the mean over the anchors, and how far boxes differ where there is an object."""
        softened, wanted = (
            functional.log_softmax(one["cls_logits"].flatten(0, 1) / temperature, 1) for one in (outputs, taught)
        )
        classes = functional.kl_div(softened, wanted, reduction="batchmean", log_target=True)
        found = 1 - taught["cls_logits"].softmax(-1)[..., 0]
        apart = (outputs["bbox_regression"] - taught["bbox_regression"]).abs().mean(-1)
        return temperature**2 * classes + (found * apart).mean()

    def postprocess(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return each image's boxes, scores and labels, the likeliest first, after non-maximum suppression."""
        scores = outputs["cls_logits"].softmax(-1)
        boxes = decoded(outputs["bbox_regression"], self.anchors.to(scores.device))
        return [self._kept(one, each) for one, each in zip(boxes, scores, strict=True)]

    def metric(self, predictions: list[dict[str, Tensor]], targets: list[Boxes]) -> float:
        """Return COCO's mean average precision.

        Raises:
            ConfigError: torchmetrics is not installed.
        """
        importlib.import_module("pipeline.torchvision_compat")  # torchmetrics imports torchvision
        try:
            from torchmetrics.detection import MeanAveragePrecision
        except ImportError as error:
            raise ConfigError(
                f"the mAP of detection needs torchmetrics ({error}): pip install 'edge-pruning-pipeline[detection]'"
            ) from error
        read = MeanAveragePrecision(backend="pycocotools")
        read.update(predictions, [dict(target) for target in targets])
        return max(0.0, float(read.compute()["map"]))  # -1 where there is no box at all

    def _matched(self, target: Boxes, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return each anchor's label, 0 for the background, and the regression to the box that it is answerable for."""
        anchors, boxes = self.anchors.to(device), target["boxes"].to(device).float()
        if not len(boxes):
            return torch.zeros(len(anchors), dtype=torch.int64, device=device), torch.zeros_like(anchors)
        shared = overlaps(anchors, boxes)
        best, box = shared.max(1)
        own = shared.argmax(0)
        box[own], best[own] = torch.arange(len(boxes), device=device), 1.0
        labels = torch.where(best >= _MATCHED, target["labels"].to(device)[box], 0)
        return labels, encoded(boxes[box], anchors)

    def _kept(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        anchor, label = (scores[:, 1:] > self.least_score).nonzero(as_tuple=True)
        score, label = scores[anchor, label + 1], label + 1
        first = score.argsort(descending=True)[: 4 * self.most]
        kept = suppressed(boxes[anchor[first]], label[first], self.overlap)[: self.most]
        chosen = first[kept]
        return {"boxes": boxes[anchor[chosen]], "scores": score[chosen], "labels": label[chosen]}


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return by what boxes, (…, 4), differ from their anchors: SSD, equation 2.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    >>> decoded(encoded(torch.tensor([[1.0, 2.0, 9.0, 6.0]]), anchors), anchors)
    tensor([[1., 2., 9., 6.]])
    """
    (centre, size), (own, span) = _centred(boxes), _centred(anchors)
    return torch.cat([(centre - own) / span * _CENTRES, (size / span).log() * _SIZES], -1)


def decoded(regression: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes, (…, 4), of which ``encoded`` made the regression."""
    own, span = _centred(anchors)
    centre = regression[..., :2] / _CENTRES * span + own
    half = (regression[..., 2:] / _SIZES).clamp(max=_LARGEST).exp() * span / 2
    return torch.cat([centre - half, centre + half], -1)


def overlaps(some: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of each of some boxes with each of others, (some, others)."""
    low, high = torch.maximum(some[:, None, :2], others[:, :2]), torch.minimum(some[:, None, 2:], others[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1) for boxes in (some, others)]
    return both / (areas[0][:, None] + areas[1] - both).clamp(min=1e-9)


def suppressed(boxes: Tensor, labels: Tensor, overlap: float) -> Tensor:
    """Return which boxes, the likeliest first, overlap no likelier one of their class by more, as indices.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 5]])
    >>> suppressed(boxes, torch.tensor([1, 1, 2]), 0.5)
    tensor([0, 2])
    """
    near = (overlaps(boxes, boxes) > overlap) & (labels[:, None] == labels)
    stays = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in range(len(boxes)):
        if stays[i]:
            stays[i + 1 :] &= ~near[i, i + 1 :]
    return stays.nonzero().flatten()


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres and sizes, (…, 2) each."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def loss(outputs: Any, targets: Any) -> Tensor:  # noqa: ARG001 - every task has it
    """Say that the task needs its anchors."""
    raise ConfigError(_MAKE)


def metric(predictions: Any, targets: Any) -> float:  # noqa: ARG001 - every task has it
    """Say that the task needs its anchors."""
    raise ConfigError(_MAKE)


METRIC = "mAP"
_MAKE = (
    "detection needs the anchors of your network; make the task in a file of your own, TASK = Detection(anchors), and "
    "name it: --task file.py:TASK (docs/tasks.md)"
)
