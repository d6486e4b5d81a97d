"""Course of a training: what it goes by and what it tells of itself, in whichever process it is computed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from torch import nn

from pipeline.data import DataSet
from pipeline.data.dataset import Split
from pipeline.durations import say_duration
from pipeline.events import Note, Stage, StageProgress
from pipeline.objective.task import Task
from pipeline.pruning.tracing.outputs import selecting
from pipeline.training.accelerator import Accelerator
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.score import score
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, Vary, fine_tune
from pipeline.workers.executor import Tell


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a training goes by beside its images and networks."""

    settings: FineTuning
    title: str
    hold_zeros: bool = False
    """Whether weights that are zero stay zero."""
    checkpoint: bytes | None = None
    """Where it begins again."""
    checkpoint_s: float = 30.0
    """Seconds between two checkpoints."""
    search_images: int | None = None
    """By so many images early stopping goes; None: by all that judge."""
    step_s: float = 0.0
    """That a step is expected to take."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A training has come so far that it can begin again there."""

    data: bytes = field(repr=False)


def announce(course: Course, images: Split, judge: Split | None, tell: Tell) -> None:
    """Tell that a training begins."""
    settings = course.settings
    tell(Stage(course.title, None if settings.restarts else settings.steps(len(images))))
    if settings.patience and judge is None:
        tell(Note("no early stopping here: the search split, which it goes by, is trained on as well"))


def train(
    course: Course,
    model: nn.Module,
    images: Split,
    *,
    data: DataSet,
    on: Accelerator,
    teacher: nn.Module | None,
    judge: Split | None,
    tell: Tell,
    vary: Vary | None = None,
) -> Trained:
    """Train ``model`` in place; tells progress and checkpoints, and in the end how it went.

    Args:
        data: whose task and classes the model is for.
        judge: images that are not trained on, by which it is stopped early; None: none are left.
        tell: what it raises ends the training, whose checkpoint is told before.
        vary: see ``fine_tune``.
    """
    settings, task = course.settings, data.task
    with selecting(model, task, len(data.classes)):
        went = fine_tune(
            model, images, settings, teacher=taught_by(teacher, settings, task), accelerator=on, task=task,
            on_step=_Telling(tell, settings, len(images)), hold_zeros=course.hold_zeros, step_s=course.step_s,
            vary=vary,
            score=None if judge is None else (lambda network: score(network, judge, task, course.search_images)),
            least_gain=0.0 if judge is None else 1 / len(judge),  # what one right answer more would be, of any metric
            checkpoints=Checkpoints(slot=_Slot(course.checkpoint, tell), every_s=course.checkpoint_s),
        )  # fmt: skip
    _say(tell, went, settings, len(images), task)
    return went


def taught_by(teacher: nn.Module | None, settings: FineTuning, task: Task) -> nn.Module | None:
    """Return the teacher where settings and task have a use for one."""
    return teacher if settings.teacher_mix and task.teacher_loss is not None else None


class _Slot:
    """Checkpoints that are told to whoever keeps them."""

    def __init__(self, last: bytes | None, tell: Tell) -> None:
        self._last, self._tell = last, tell

    def read(self) -> bytes | None:
        return self._last

    def write(self, data: bytes) -> None:
        self._tell(Checkpointed(data))

    def remove(self) -> None:
        self._last = None


@dataclass
class _Telling:
    """Says after each step how far the training has come, and how long what it is at will take."""

    tell: Tell
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
        self.tell(StageProgress(step, f"loss {loss:.3f}{left}"))


def _say(tell: Tell, went: Trained, settings: FineTuning, images: int, task: Task) -> None:
    if went.resumed:
        tell(Note(f"the training went on from its checkpoint at step {went.resumed} of {went.steps}"))
    if went.best_score is None:
        return
    kept = f"kept are the weights of step {went.best_step}, {task.shown(went.best_score)}"
    if not settings.restarts:
        ended = f"ended early at step {went.ended} of {went.steps}" if went.ended < went.steps else "went to its end"
        tell(Note(f"the training {ended}; {kept} on the search split"))
        return
    passes, cycles = (
        went.ended / settings.steps_a_pass(images),
        "1 cycle" if went.cycles == 1 else f"{went.cycles} cycles",
    )
    why = "more time or passes may help" if went.gained else "the last brought no gain"
    took = f"trained {passes:.3g} passes in {say_duration(went.seconds)}, {cycles}: {why}"
    tell(Note(f"{took}; {kept} on the images that judge"))
