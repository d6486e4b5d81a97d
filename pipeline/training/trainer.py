"""The training loop: fine-tuning of a cut network with the base network as teacher, and training of the base.

Begun again from a checkpoint, it comes to the same weights, bit by bit on one machine and number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline import structures
from pipeline.errors import ConfigError, DataError
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.training.accelerator import Accelerator, cpu
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.cycles import Cycles
from pipeline.training.feed import Images
from pipeline.training.loss import in_float32, loss_of, require_finite, require_finite_weights
from pipeline.training.patience import Patience, Score
from pipeline.training.progress import Progress, feed_of, put_weights, weights_of
from pipeline.training.settings import FineTuning
from pipeline.training.sparsity import penalised, pull_towards_zero
from pipeline.training.teacher import Teacher
from pipeline.training.zeros import Zeros

OnStep = Callable[[int, int, float], None]
"""Called after each step with the step, the last step of its cycle (in a training without restarts the last of all) and
the loss."""
Vary = Callable[[structures.Inputs, int], structures.Inputs]
_LONGEST_GRADIENT = 5.0
"""Gradients are clipped to this norm."""
_EVALUATIONS = 8
"""Of a cycle, at most, however long it is."""
_FEWEST_AVERAGED, _MOST_AVERAGED = 10, 1000
"""Steps over which weights are averaged: those of a pass, within these."""


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
    cycles: int = 1
    """Cycles that were trained."""
    gained: bool = True
    """Whether the last of them brought a gain; False: it ended the training."""
    seconds: float = field(default=0.0, compare=False)


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
    step_s: float = 0.0,
    task: Task | None = None,
    least_gain: float = 0.0,
    vary: Vary | None = None,
) -> Trained:
    """Train ``model`` in place on ``images``, augmented; leaves it on the CPU in eval mode.

    Args:
        teacher: the base network, whose softened answers are learnt too (Hinton et al., 2015).
        on_step: called after each step; what it raises ends the training, which can be begun again there.
        score: what early stopping and restarts go by; without it there is no early stopping, and no cycle is the last
            before the steps are over.
        checkpoints: where to begin again, and where to note how far the training has come. The last one, with the
            trained weights, is left for the caller to remove once they are stored.
        accelerator: what computes; None: the processor.
        hold_zeros: whether weights that are zero when it begins stay zero.
        step_s: seconds that a step is expected to take, by which a budget is planned before any was timed.
        task: whose loss is learnt by; None: classification.
        least_gain: of the score; a cycle that brings less is the last.
        vary: what the network sees of a batch at a step, while the teacher sees the batch itself; the same step gives
            the same. None: the batch.

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
        taught = settings.teacher_mix > 0 and task.teacher_loss is not None
        asked = Teacher(teacher, on) if teacher is not None and taught else None
        judge = score if settings.patience > 0 or settings.restarts else None
        zeros = Zeros(model) if hold_zeros else None
        trained = _Training(
            model, images, settings, asked, judge, checkpoints, on, zeros, step_s, task, least_gain, vary
        ).run(on_step)
    model.eval()
    return trained


class _Training:
    """One training under way."""

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        settings: FineTuning,
        teacher: Teacher | None,
        score: Score | None,
        checkpoints: Checkpoints | None,
        on: Accelerator,
        zeros: Zeros | None,
        step_s: float,
        task: Task,
        least_gain: float,
        vary: Vary | None,
    ) -> None:
        self._model, self._settings, self._teacher, self._on = model, settings, teacher, on
        self._score, self._checkpoints = score, checkpoints
        self._interval = settings.evaluation_interval(len(images))
        self._expected_step_s = step_s
        self._average = get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            1 - 1 / _averaged_steps(settings, len(images))
        )
        self._pulled = penalised(model, settings.l1, settings.l1_on)
        self._zeros, self._task, self._vary = zeros, task, vary
        self._at = Progress(
            model=model, images=images, settings=settings, on=on, optimizer=_sgd(model, settings), scaler=on.scaler(),
            feed=feed_of(images, settings), patience=Patience(patience=settings.patience),
            cycles=Cycles(first=settings.first_cycle(len(images)), most=settings.steps(len(images)),
                          least_gain=least_gain),
        )  # fmt: skip

    def run(self, on_step: OnStep) -> Trained:
        at = self._at
        require_finite_weights(self._model)
        resumed = at.begin_again(self._checkpoints.slot.read() if self._checkpoints is not None else None)
        self._resumed, self._resumed_s = resumed, at.spent_s
        if resumed == 0:
            self._begin()
        self._model.train()
        while at.step < at.cycles.end and not self._stopped_early:
            loss = self._learn()
            at.step += 1
            self._keep_average()
            self._evaluate()
            self._plan()
            self._tell(on_step, loss)
        at.optimizer.zero_grad(set_to_none=True)  # else every later copy of the network carries its gradients along
        if self._score is not None:
            put_weights(at.patience.weights, self._model)
        self._note_if_due()
        return self._went(resumed)

    def _begin(self) -> None:
        """Begin the first cycle; with restarts, what it begins with is judged too: no training may end with less."""
        at = self._at
        if self._settings.restarts and self._score is not None:
            at.averaged = {name: value.detach().clone() for name, value in weights_of(self._model).items()}
            at.patience.hear(self._score(self._model), 0, weights_of(self._model))
        at.cycles.begin(at.patience.best, self._room())

    def _went(self, resumed: int) -> Trained:
        at, cycles = self._at, self._at.cycles
        gained = self._score is None or not self._settings.restarts or cycles.has_gained(at.patience.best)
        went = Trained(
            cycles.most, resumed, at.step, cycles=len(cycles.ends), gained=gained, seconds=at.spent_s
        )  # fmt: skip
        heard = at.patience
        return replace(went, best_step=heard.best_step, best_score=heard.best) if heard.has_heard else went

    @property
    def _stopped_early(self) -> bool:
        patient = self._score is not None and not self._settings.restarts
        return patient and self._at.patience.exhausted

    def _room(self) -> int | None:
        """Return the steps for which there is time; None: nothing limits it."""
        at, budget_s = self._at, self._settings.budget_s
        if budget_s is None:
            return None
        timed = at.step - self._resumed
        step_s = (at.spent_s - self._resumed_s) / timed if timed else self._expected_step_s
        left_s = max(0.0, budget_s - at.spent_s)
        return max(0 if at.step else 1, int(left_s / step_s)) if step_s > 0 else at.cycles.most

    def _plan(self) -> None:
        """Begin the next cycle where this one is over and another may help; let none outlast the budget."""
        at = self._at
        room = self._room()
        if at.step == at.cycles.end:
            judged = self._score is None or at.cycles.has_gained(at.patience.best)
            if self._settings.restarts and judged:
                at.cycles.begin(at.patience.best, room)
        elif room is not None and at.step % self._interval == 0:
            at.cycles.shorten(at.step, room)

    def _keep_average(self) -> None:
        at = self._at
        if not at.averaged:
            return
        now = weights_of(self._model)
        moving = [name for name, value in now.items() if value.is_floating_point()]
        with torch.no_grad():
            self._average([at.averaged[name] for name in moving], [now[name] for name in moving], 1)
            for name in now.keys() - set(moving):
                at.averaged[name].copy_(now[name])

    def _learn(self) -> float:
        """Take one gradient step; return the loss before it."""
        at, settings, step = self._at, self._settings, self._at.step + 1
        x, y = (structures.mapped(part, self._on.here) for part in at.feed.take())
        with self._on.autocast():
            outputs = structures.answer(self._model, x if self._vary is None else self._vary(x, step))
            taught = None if self._teacher is None else self._teacher.answers(x, at.feed.view)
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
            group["lr"] = settings.learning_rate * at.cycles.rate(at.step, settings.warmup)
        at.scaler.step(at.optimizer)
        at.scaler.update()
        if self._zeros is not None:
            self._zeros.restore()
        return value

    def _evaluate(self) -> None:
        at = self._at
        length = at.cycles.end - at.cycles.start
        interval = max(self._interval, length // _EVALUATIONS) if self._settings.restarts else self._interval
        if self._score is None or ((at.step - at.cycles.start) % interval and at.step < at.cycles.end):
            return
        at.patience.hear(self._score(self._model), at.step, weights_of(self._model))
        if at.averaged:
            trained = {name: value.detach().clone() for name, value in weights_of(self._model).items()}
            put_weights(at.averaged, self._model)
            at.patience.hear(self._score(self._model), at.step, at.averaged)
            put_weights(trained, self._model)
        self._model.train()

    def _tell(self, on_step: OnStep, loss: float) -> None:
        """Say how far it has come; note it on the disk when it is time, and whenever the listener ends the training."""
        try:
            on_step(self._at.step, self._at.cycles.end, loss)
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


def _averaged_steps(settings: FineTuning, images: int) -> int:
    return min(_MOST_AVERAGED, max(_FEWEST_AVERAGED, settings.steps_a_pass(images)))


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
