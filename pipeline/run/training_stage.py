"""Training stage: a training with progress, checkpoints and resumption."""

from __future__ import annotations

from torch import nn

from pipeline.events import Note, Stage
from pipeline.pruning.tracing.outputs import selecting
from pipeline.run.context import Context
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.feed import Images
from pipeline.training.score import score
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, fine_tune


def train_with_checkpoints(
    context: Context,
    model: nn.Module,
    images: Images,
    settings: FineTuning,
    *,
    name: str,
    title: str,
    teacher: nn.Module | None = None,
    unseen: bool = True,
    hold_zeros: bool = False,
) -> None:
    """Train ``model`` in place; once its weights are stored, ``forget`` the same ``name``.

    Args:
        name: of the checkpoint; one for each training of the run.
        unseen: whether ``images`` leave out the search split, by which a training is stopped early.
        hold_zeros: whether weights that are zero stay zero.
    """
    context.listen(Stage(title, settings.steps(len(images))))
    if settings.patience and not unseen:
        context.listen(Note("no early stopping here: the search split, which it goes by, is trained on as well"))
    task = context.data.task
    with selecting(model, task, len(context.data.classes)):
        went = fine_tune(
            model, images, settings, teacher=teacher, on_step=context.train_step, accelerator=context.accelerator,
            score=(lambda network: _score(context, network)) if unseen else None, hold_zeros=hold_zeros,
            task=task,
            checkpoints=Checkpoints(slot=context.store.checkpoint(name), every_s=context.config.checkpoint_s),
        )  # fmt: skip
    _say(context, went)


def discard_checkpoint(context: Context, name: str) -> None:
    """Remove the checkpoint of a training whose weights are stored."""
    context.store.checkpoint(name).remove()


def _score(context: Context, network: nn.Module) -> float:
    return score(network, context.data.search, context.data.task, context.config.evaluation.search_images)


def _say(context: Context, went: Trained) -> None:
    if went.resumed:
        context.listen(Note(f"the training went on from its checkpoint at step {went.resumed} of {went.steps}"))
    if went.best_score is not None:
        ended = f"ended early at step {went.ended} of {went.steps}" if went.ended < went.steps else "went to its end"
        context.listen(
            Note(f"the training {ended}; kept are the weights of step {went.best_step}, "
                 f"{context.data.task.shown(went.best_score)} on the search split")
        )  # fmt: skip
