"""Classification: one class for each example; cross entropy, and the share of right answers.

Outputs are scores, (N, classes), before any softmax; targets are int64 (N,).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn import functional

from pipeline import structures
from pipeline.errors import ModelError

METRIC = "accuracy"
PUTS_INTO_CLASSES = True

_SCORES = ("out", "logits", "scores", "output")
"""Keys under which a dictionary holds the class scores; the rest follows in its own order."""


def loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy."""
    return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def teacher_loss(outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T²·KL(teacher ‖ student), both softened by T: Hinton et al., 2015, section 2."""
    divergence = functional.kl_div(
        functional.log_softmax(outputs / temperature, 1),
        functional.log_softmax(taught / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature * temperature * divergence


def select(outputs: Any, classes: int | None = None) -> Tensor:
    """Return the class scores: the first tensor of shape (N, classes), or else of two dimensions.

    Raises:
        ModelError: no tensor has two dimensions.
    """
    parts = list(_likeliest(structures.as_parts(outputs)))
    flat = [part for part in parts if part.dim() == 2]
    if not flat:
        found = ", ".join(str(tuple(part.shape)) for part in parts) or "none"
        raise ModelError(f"must return one tensor of class scores, (N, classes); its tensors are: {found}")
    return next((part for part in flat if part.shape[1] == classes), flat[0])


def postprocess(outputs: Tensor) -> Tensor:
    """Return the class of the highest score, int64 (N,)."""
    return outputs.argmax(1)


def metric(predictions: Tensor, targets: Tensor) -> float:
    """Return the share of right answers."""
    return float((predictions == targets).sum()) / len(targets)


def _likeliest(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors of an answer, the likeliest class scores first."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for key in sorted(outputs, key=lambda key: _SCORES.index(key) if key in _SCORES else len(_SCORES)):
            yield from _likeliest(outputs[key])
    elif isinstance(outputs, tuple):
        for value in outputs:
            yield from _likeliest(value)
