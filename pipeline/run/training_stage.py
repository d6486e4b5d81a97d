"""Training stage: a training with progress, checkpoints and resumption, its time told before and during it."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from pipeline.data.dataset import Split
from pipeline.durations import say_duration
from pipeline.events import Event, Note, StageProgress, Working
from pipeline.pruning.tracing.outputs import selecting
from pipeline.run.context import Context
from pipeline.run.training_course import Checkpointed, Course, announce, taught_by, train
from pipeline.store.facts import HALF_PRECISION
from pipeline.training.accelerator import Accelerator
from pipeline.training.pace import Pace, measure_pace
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, Vary
from pipeline.workers.executor import Tell


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
    course, tell = course_of(context, settings, name=name, title=title, hold_zeros=hold_zeros), hearing(context, name)
    announce(course, images, judge, tell)
    task = context.data.task
    with selecting(model, task, len(context.data.classes)):
        on, pace = _ready(context, model, images, settings, taught_by(teacher, settings, task), expect=expect)
    if pace is not None and expect:
        context.listen(Note(expected(settings, pace, len(images), 0 if judge is None else len(judge))))
    course = replace(course, step_s=0.0 if pace is None else pace.step_s + pace.teacher_s)
    return train(course, model, images, data=context.data, on=on, teacher=teacher, judge=judge, tell=tell, vary=vary)


def course_of(context: Context, settings: FineTuning, *, name: str, title: str, hold_zeros: bool = False) -> Course:
    """Return what a training goes by, from its last checkpoint on."""
    return Course(
        settings=settings, title=title, hold_zeros=hold_zeros, checkpoint=context.store.checkpoint(name).read(),
        checkpoint_s=context.config.checkpoint_s,
        search_images=None if settings.restarts else context.config.evaluation.search_images,
    )  # fmt: skip


def hearing(context: Context, name: str) -> Tell:
    """Return what hears a training: it keeps its checkpoints, and passes on what it says.

    It ends it where the user asked to stop, by raising StoppedError.
    """
    slot = context.store.checkpoint(name)

    def hear(event: Event | Checkpointed) -> None:
        match event:
            case Checkpointed(data):
                slot.write(data)
            case StageProgress(done, note):
                context.report_progress(done, note)
            case Working(_, what) if what:
                context.stop_if_requested()
                context.listen(event)
            case _:
                context.listen(event)

    return hear


def half_precision_on(
    context: Context, model: nn.Module, images: Split, settings: FineTuning, teacher: nn.Module | None
) -> frozenset[str]:
    """Return the kinds of device, ``cpu`` and ``cuda``, on which trainings compute in half precision.

    On the processor a trial with ``model`` says whether it is faster, once in a run.
    """
    if context.config.training_precision == "float32":
        return frozenset()
    task = context.data.task
    with selecting(model, task, len(context.data.classes)):
        on, _ = _ready(context, model, images, settings, taught_by(teacher, settings, task), expect=False)
    known = context.store.get(HALF_PRECISION)
    return frozenset({"cuda"}) if known is False else frozenset({"cuda", on.device.type})


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
