"""Training stage: a training with progress, checkpoints and resumption, its time told before and during it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from torch import nn

from pipeline.data.dataset import Split
from pipeline.durations import say_duration
from pipeline.events import Note, Stage
from pipeline.pruning.tracing.outputs import selecting
from pipeline.run.context import Context
from pipeline.store.facts import HALF_PRECISION
from pipeline.training.accelerator import Accelerator
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.pace import Pace, measure_pace
from pipeline.training.score import score
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, Vary, fine_tune


def train_with_checkpoints(
    context: Context,
    model: nn.Module,
    images: Split,
    settings: FineTuning,
    *,
    name: str,
    title: str,
    teacher: nn.Module | None = None,
    judge: Split | None = None,
    hold_zeros: bool = False,
    expect: bool = False,
    vary: Vary | None = None,
) -> Trained:
    """Train ``model`` in place; once its weights are stored, ``discard_checkpoint`` of the same ``name``.

    Args:
        name: of the checkpoint; one for each training of the run.
        judge: images that are not trained on, by which a training is stopped early; None: none are left.
        hold_zeros: whether weights that are zero stay zero.
        expect: whether to say how long it will take, before it begins.
        vary: see ``fine_tune``.
    """
    context.listen(Stage(title, None if settings.restarts else settings.steps(len(images))))
    if settings.patience and judge is None:
        context.listen(Note("no early stopping here: the search split, which it goes by, is trained on as well"))
    task = context.data.task
    with selecting(model, task, len(context.data.classes)):
        teaches = teacher if settings.teacher_mix and task.teacher_loss is not None else None
        on, pace = _ready(context, model, images, settings, teaches, expect=expect)
        if pace is not None and expect:
            context.listen(Note(expected(settings, pace, len(images), 0 if judge is None else len(judge))))
        went = fine_tune(
            model, images, settings, teacher=teaches, on_step=_Telling(context, settings, len(images)), accelerator=on,
            score=None if judge is None else (lambda network: _score(context, network, judge, settings)),
            hold_zeros=hold_zeros, step_s=0.0 if pace is None else pace.step_s + pace.teacher_s, task=task,
            least_gain=0.0 if judge is None else 1 / len(judge),  # what one right answer more would be, of any metric
            vary=vary,
            checkpoints=Checkpoints(slot=context.store.checkpoint(name), every_s=context.config.checkpoint_s),
        )  # fmt: skip
    _say(context, went, settings, len(images))
    return went


def discard_checkpoint(context: Context, name: str) -> None:
    """Remove the checkpoint of a training whose weights are stored."""
    context.store.checkpoint(name).remove()


def expected(settings: FineTuning, pace: Pace, images: int, judged: int) -> str:
    """Return in a sentence how long a training will take."""
    a_pass = settings.steps_a_pass(images)

    def takes(steps: int) -> str:
        known = min(steps, settings.teacher_views * a_pass) if settings.teacher_views else steps
        return say_duration(steps * pace.step_s + known * pace.teacher_s)

    most = settings.steps(images)
    limit = "" if settings.budget_s is None else f"; the budget is {say_duration(settings.budget_s)}"
    if not settings.restarts:
        passes = "1 pass" if most == a_pass else f"{most / a_pass:.3g} passes"
        return f"{passes} over {images:,} images, about {takes(most)}{limit}"
    first = settings.first_cycle(images)
    least = min(most, 3 * first)
    shorter = limit or "; less: --budget 30m, or fine_tuning: {max_epochs: 20}"
    return (
        f"trained until it stops helping, judged on {judged:,} other images: cycles of {first / a_pass:.3g}, "
        f"{2 * first / a_pass:.3g}, {4 * first / a_pass:.3g}, … passes over {images:,}; about {takes(a_pass)} a pass, "
        f"so at least {takes(least)}, at most {takes(most)} ({most / a_pass:.3g} passes){shorter}"
    )


@dataclass
class _Telling:
    """Says after each step how far the training has come, and how long what it is at will take."""

    context: Context
    settings: FineTuning
    images: int
    _from: tuple[int, float] | None = field(default=None)
    """The first step that was heard of, and when."""

    def __call__(self, step: int, end: int, loss: float) -> None:
        now = time.monotonic()
        if self._from is None:
            self._from = step, now
        first, began = self._from
        if step == first:
            left = ""
        elif not self.settings.restarts:
            left = f", {say_duration((end - step) * (now - began) / (step - first))} left"
        else:
            done = step / self.settings.steps_a_pass(self.images)
            takes = say_duration((end - step) * (now - began) / (step - first))
            left = f", pass {done:.1f}, this cycle ends in {takes}"
        self.context.report_progress(step, f"loss {loss:.3f}{left}")


def _ready(
    context: Context, model: nn.Module, images: Split, settings: FineTuning, teacher: nn.Module | None, *, expect: bool
) -> tuple[Accelerator, Pace | None]:
    """Return what trains, in the precision that the run has found to be faster, and the pace where it was measured."""
    on, known = context.accelerator, context.store.get(HALF_PRECISION)
    if context.config.training_precision == "float32":
        on, known = replace(on, half=None), None
    decide = on.half is not None and on.device.type == "cpu" and known is None
    if on.half is not None and known is False:
        on = replace(on, half=None)
    if not decide and not expect:
        return on, None
    pace = measure_pace(model, images, settings, on, teacher, context.data.task)
    if decide:
        context.store.set(HALF_PRECISION, pace.half_is_faster)
        on = on if pace.half_is_faster else replace(on, half=None)
    return on, pace


def _score(context: Context, network: nn.Module, judge: Split, settings: FineTuning) -> float:
    limit = None if settings.restarts else context.config.evaluation.search_images
    return score(network, judge, context.data.task, limit)


def _say(context: Context, went: Trained, settings: FineTuning, images: int) -> None:
    if went.resumed:
        context.listen(Note(f"the training went on from its checkpoint at step {went.resumed} of {went.steps}"))
    if went.best_score is None:
        return
    kept = f"kept are the weights of step {went.best_step}, {context.data.task.shown(went.best_score)}"
    if not settings.restarts:
        ended = f"ended early at step {went.ended} of {went.steps}" if went.ended < went.steps else "went to its end"
        context.listen(Note(f"the training {ended}; {kept} on the search split"))
        return
    passes, cycles = (
        went.ended / settings.steps_a_pass(images),
        "1 cycle" if went.cycles == 1 else f"{went.cycles} cycles",
    )
    why = "more time or passes may help" if went.gained else "the last brought no gain"
    took = f"trained {passes:.3g} passes in {say_duration(went.seconds)}, {cycles}: {why}"
    context.listen(Note(f"{took}; {kept} on the images that judge"))
