"""The training loop: fine-tuning of a cut network with the base network as teacher, and training of the base.

Begun again from a checkpoint, it comes to the same weights, bit by bit on one machine and number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline import structures
from pipeline.errors import ConfigError, DataError
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.structures import Inputs
from pipeline.training.accelerator import Accelerator, cpu
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.feed import Feed, Images
from pipeline.training.loss import in_float32, loss_of, require_finite, require_finite_weights
from pipeline.training.patience import Patience, Score
from pipeline.training.progress import Progress, put_weights, weights_of
from pipeline.training.settings import FineTuning
from pipeline.training.sparsity import penalised, pull_towards_zero
from pipeline.training.zeros import Zeros

OnStep = Callable[[int, int, float], None]
"""Called after each step with the step, the number of steps and the loss."""
_LONGEST_GRADIENT = 5.0
"""Gradients are clipped to this norm."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training went."""

    steps: int
    """Gradient steps that it could have taken."""
    resumed: int
    """Steps that were taken before it was begun again; 0: it was not."""
    ended: int
    """The last step: before ``steps`` where it was stopped early."""
    best_step: int | None = None
    """Where its weights come from, if early stopping chose them."""
    best_score: float | None = None


def fine_tune(
    model: nn.Module,
    images: Images,
    settings: FineTuning,
    *,
    teacher: nn.Module | None = None,
    on_step: OnStep = lambda *_: None,
    score: Score | None = None,
    checkpoints: Checkpoints | None = None,
    accelerator: Accelerator | None = None,
    hold_zeros: bool = False,
    task: Task | None = None,
) -> Trained:
    """Train ``model`` in place on ``images``, augmented; leaves it on the CPU in eval mode.

    Args:
        teacher: the base network, whose softened answers are learnt too (Hinton et al., 2015).
        on_step: called after each step; what it raises ends the training, which can be begun again there.
        score: what early stopping goes by; without it, or without patience, there is none.
        checkpoints: where to begin again, and where to note how far the training has come. The last one, with the
            trained weights, is left for the caller to remove once they are stored.
        accelerator: what computes; None: the processor.
        hold_zeros: whether weights that are zero when it begins stay zero.
        task: whose loss is learnt by; None: classification.

    Raises:
        DataError: there are not two images to learn from, or they hold values that are not finite.
        CandidateError: the loss is not finite any more.
        ConfigError: no room for a batch, or a penalty on what the network does not have.
    """
    if len(images) < 2:
        raise DataError(f"fine-tuning needs at least two images, found {len(images)}")
    on = accelerator or cpu()
    with _no_room_explained(settings, on), on.seeded(settings.seed), on.holding(model):
        task = task or classification()
        taught = teacher is not None and settings.teacher_mix > 0 and task.teacher_loss is not None
        asked = on.copy_of(teacher).eval() if taught and teacher is not None else None
        judge = score if settings.patience > 0 else None
        zeros = Zeros(model) if hold_zeros else None
        trained = _Training(model, images, settings, asked, judge, checkpoints, on, zeros, task).run(on_step)
    model.eval()
    return trained


class _Training:
    """One training under way."""

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        settings: FineTuning,
        teacher: nn.Module | None,
        score: Score | None,
        checkpoints: Checkpoints | None,
        on: Accelerator,
        zeros: Zeros | None,
        task: Task,
    ) -> None:
        self._model, self._settings, self._teacher, self._on = model, settings, teacher, on
        self._score, self._checkpoints = score, checkpoints
        self._steps = settings.steps(len(images))
        self._interval = settings.evaluation_interval(len(images))
        self._pulled = penalised(model, settings.l1, settings.l1_on)
        self._zeros, self._task = zeros, task
        self._at = Progress(
            model=model, images=images, settings=settings, on=on, optimizer=_sgd(model, settings), scaler=on.scaler(),
            feed=Feed(images, settings.batch_size, settings.seed), patience=Patience(patience=settings.patience),
        )  # fmt: skip

    def run(self, on_step: OnStep) -> Trained:
        at = self._at
        require_finite_weights(self._model)
        resumed = at.begin_again(self._checkpoints.slot.read() if self._checkpoints is not None else None)
        self._model.train()
        while at.step < self._steps and not self._stopped_early:
            loss = self._learn()
            at.step += 1
            self._evaluate()
            self._tell(on_step, loss)
        at.optimizer.zero_grad(set_to_none=True)  # else every later copy of the network carries its gradients along
        if self._score is not None:
            put_weights(at.patience.weights, self._model)
        self._note_if_due()
        if at.patience.best_step == 0:
            return Trained(self._steps, resumed, at.step)
        return Trained(self._steps, resumed, at.step, at.patience.best_step, at.patience.best)

    @property
    def _stopped_early(self) -> bool:
        return self._score is not None and self._at.patience.exhausted

    def _learn(self) -> float:
        """Take one gradient step; return the loss before it."""
        at, settings, step = self._at, self._settings, self._at.step + 1
        x, y = (structures.mapped(part, self._on.here) for part in at.feed.take())
        with self._on.autocast():
            outputs, taught = structures.answer(self._model, x), _answers(self._teacher, x)
        loss = loss_of(in_float32(outputs), y, taught, settings, self._task)
        value = loss.item()
        require_finite(value, "loss", x, step, settings)
        at.optimizer.zero_grad(set_to_none=True)
        at.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        at.scaler.unscale_(at.optimizer)
        if self._zeros is not None:
            self._zeros.free_gradients()
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), _LONGEST_GRADIENT)
        if not at.scaler.is_enabled():  # float16's scaler itself passes over a step whose gradient overflowed
            require_finite(norm.item(), "gradient's norm", x, step, settings)
        pull_towards_zero(self._pulled, settings.l1)  # after the clipping, which would take part of the pull away
        for group in at.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(at.step / self._steps, settings.warmup)
        at.scaler.step(at.optimizer)
        at.scaler.update()
        if self._zeros is not None:
            self._zeros.restore()
        return value

    def _evaluate(self) -> None:
        step = self._at.step
        if self._score is None or (step % self._interval and step < self._steps):
            return
        self._at.patience.hear(self._score(self._model), step, weights_of(self._model))
        self._model.train()

    def _tell(self, on_step: OnStep, loss: float) -> None:
        """Say how far it has come; note it on the disk when it is time, and whenever the listener ends the training."""
        try:
            on_step(self._at.step, self._steps, loss)
        except BaseException:
            if self._checkpoints is not None:
                self._checkpoints.write(self._at.state())
            raise
        self._note_if_due()

    def _note_if_due(self) -> None:
        if self._checkpoints is not None and self._checkpoints.due:
            self._checkpoints.write(self._at.state())


def _sgd(model: nn.Module, settings: FineTuning) -> torch.optim.SGD:
    return torch.optim.SGD(
        _decayed(model, settings.weight_decay), lr=settings.learning_rate, momentum=settings.momentum,
        nesterov=settings.momentum > 0,
    )  # fmt: skip


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups: weight decay for weights, none for biases and norms."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rate(progress: float, warmup: float) -> float:
    """Return the learning rate's factor after a share of the steps: linear up, cosine down.

    >>> [round(_rate(p, 0.1), 2) for p in (0.0, 0.1, 0.55, 1.0)]
    [0.01, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return max(0.01, progress / warmup)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _answers(teacher: nn.Module | None, x: Inputs) -> Any | None:
    if teacher is None:
        return None
    with torch.inference_mode():
        answers = structures.answer(teacher, x)
    return structures.mapped(in_float32(answers), torch.clone)


@contextmanager
def _no_room_explained(settings: FineTuning, on: Accelerator) -> Iterator[None]:
    """Turn what torch raises without memory into advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not short and "DefaultCPUAllocator" not in str(error):  # the CPU's allocator has no class of its own
            raise
        elsewhere = ", or train on the CPU (accelerator: cpu)" if on.device.type == "cuda" else ""
        raise ConfigError(
            f"no room in the memory of {on.device} to train with batches of {settings.batch_size} images; lower "
            f"batch_size under fine_tuning (under base_training for the base model){elsewhere}"
        ) from error
