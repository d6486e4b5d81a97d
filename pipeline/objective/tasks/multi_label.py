"""Several labels for each example: binary cross entropy, and the mean average precision over the labels.

Outputs are scores, (N, labels), before any sigmoid; targets are 0 or 1, (N, labels). Average precision asks how well a
label's scores rank the examples that have it before those that have not, and so for no threshold; F1 would judge the
threshold as well, which whoever deploys the network still may choose. Labels that no example of the split has are left
out, since nothing can be ranked for them.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional

METRIC = "mean average precision"


def loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean binary cross entropy; smoothed, a target lies between its own value and a half."""
    wanted = targets.to(outputs.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(outputs, wanted)


def teacher_loss(outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² times the binary cross entropy with the teacher's probabilities, both softened by T."""
    wanted = (taught / temperature).sigmoid()
    return temperature**2 * functional.binary_cross_entropy_with_logits(outputs / temperature, wanted)


def metric(predictions: Tensor, targets: Tensor) -> float:
    """Return the mean over the labels of the average precision; 0 where no example has any label."""
    scores, wanted = predictions.float().cpu().numpy(), targets.cpu().numpy() > 0
    there = [label for label in range(wanted.shape[1]) if wanted[:, label].any()]
    found = [float(average_precision_score(wanted[:, label], scores[:, label])) for label in there]
    return float(np.mean(found)) if found else 0.0
