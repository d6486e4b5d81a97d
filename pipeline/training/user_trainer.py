"""Trainer of the user's own: what it is given, and how what it returns is verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import TrainerError, nearest
from pipeline.training.checkpoint import Slot, State
from pipeline.training.feed import Images


class Report(Protocol):
    """Hears how far a training has come."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say that ``done`` of ``total`` steps are over; raises where the run is to stop, which has to pass through."""
        ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """What ``fit(training)`` is given."""

    network: nn.Module
    """The pruned network, on the CPU: train it in place or copy it, and return it."""
    teacher: nn.Module
    """The base network, in eval mode; it stays as it is."""
    images: Images
    """To train on: ``batches(size, generator=…, augment=True)`` yields images (N, C, H, W) and labels (N,), or the
    inputs, several as a tuple, and targets of another task."""
    validation: Images | None
    """To judge by; None: the settings ask for a fixed number of passes, and all images are trained on."""
    classes: tuple[str, ...]
    epochs: float | None
    """Passes that the settings ask for; None: as long as it helps."""
    max_epochs: float
    """Passes at most."""
    budget_s: float | None
    """Seconds at most; the trainer keeps to it itself."""
    seed: int
    hold_zeros: bool
    """Whether weights that are zero have to stay zero."""
    device: torch.device
    """Where to train, by the run's settings."""
    loss: Callable[[Any, Any], Tensor]
    """The task's loss of a batch's outputs and targets."""
    teacher_loss: Callable[[Any, Any], Tensor] | None
    """The task's loss of outputs and the teacher's; None: it has none."""
    score: Callable[[nn.Module], float | None]
    """The task's metric, from 0 to 1, on ``validation``; leaves the network in eval mode; None without such images."""
    metric: str
    """What the score is called: ``accuracy``, the share of right answers, unless the task has another."""
    report: Report
    slot: Slot

    def save(self, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        """Write a checkpoint: tensors by name, and what JSON can say; the one before is replaced as a whole."""
        flat = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        self.slot.write(State(dict(facts), flat).to_bytes())

    def saved(self) -> State | None:
        """Return the last checkpoint, ``.tensors`` and ``.facts``, if the run was interrupted; None: there is none."""
        data = self.slot.read()
        if data is None:
            return None
        try:
            return State.from_bytes(data)
        except ValueError:
            return None


def require_trained(name: str, before: nn.Module, returned: object, *, hold_zeros: bool) -> dict[str, Tensor]:
    """Return the weights of what a trainer returned.

    Args:
        name: of the trainer, as the user typed it.
        before: the network as it was given.

    Raises:
        TrainerError: it is no network of the same structure and shapes, not finite, or zeros have moved.
    """
    if not isinstance(returned, nn.Module):
        what = "nothing" if returned is None else f"a {type(returned).__name__}"
        raise TrainerError(f"{name} returned {what}; return the trained network, training.network or a copy of it")
    wanted, found = before.state_dict(), returned.state_dict()
    for key in [*wanted, *found]:
        problem = _difference(key, wanted, found)
        if problem:
            raise TrainerError(
                f"{name} returned another network: {problem}; return training.network or a copy of it, with other "
                "weights and no other layers"
            )
    broken = [key for key, value in found.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise TrainerError(
            f"{name} returned weights that are not finite: {', '.join(broken[:3])}; lower its learning rate, or keep "
            "the weights of before they were"
        )
    for key, value in wanted.items() if hold_zeros else ():
        if value.dim() > 1 and bool(found[key].cpu()[value == 0].any()):
            raise TrainerError(f"{name} moved weights of {key} that are zero and have to stay so (training.hold_zeros)")
    return {key: value.detach().cpu() for key, value in found.items()}


def _difference(key: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    if key not in found:
        return f"{key} is missing{nearest(key, list(found))}"
    if key not in wanted:
        return f"{key} is new"
    if wanted[key].shape != found[key].shape:
        return f"{key} is {tuple(found[key].shape)}, and was {tuple(wanted[key].shape)}"
    return "" if wanted[key].dtype == found[key].dtype else f"{key} is {found[key].dtype}, and was {wanted[key].dtype}"
