"""Full training of the chosen network: on which images, judged by which, for how long, by whom."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from pipeline.data.dataset import Split
from pipeline.run.context import Context
from pipeline.run.own_trainer import train_by_own_trainer
from pipeline.run.training_stage import train_with_checkpoints
from pipeline.store.facts import TRAINED_IN_FULL, TrainedInFull
from pipeline.training.settings import FineTuning, settings_in_full


@dataclass(frozen=True, kw_only=True)
class FullTraining:
    """What a network goes through once it is chosen."""

    settings: FineTuning
    images: Split
    judge: Split | None
    """Images that it is not trained on, by which it is judged meanwhile; None: none are left."""

    def train(
        self, context: Context, network: fx.GraphModule, teacher: fx.GraphModule, *, name: str, title: str,
        hold_zeros: bool = False,
    ) -> None:  # fmt: skip
        """Train ``network`` in place; once its weights are stored, ``discard_checkpoint`` of the same name."""
        if self.settings.epochs == 0:
            return
        if context.config.fine_tuning.trainer is not None:
            train_by_own_trainer(
                context, network, teacher, self.settings, self.images, self.judge, name=name, title=title,
                hold_zeros=hold_zeros,
            )  # fmt: skip
            return
        went = train_with_checkpoints(
            context, network, self.images, self.settings, name=name, title=title, teacher=teacher, judge=self.judge,
            hold_zeros=hold_zeros, expect=True,
        )  # fmt: skip
        passes = went.ended / self.settings.steps_a_pass(len(self.images))
        context.store.set(TRAINED_IN_FULL.of(name), TrainedInFull(passes=passes, seconds=went.seconds))


def full_training(context: Context, *, last: bool) -> FullTraining:
    """Return how the chosen network of a round is trained.

    For a given number of passes in the last round on everything but the test split: nothing is judged any more. Else on
    the training split alone: a later round still judges its candidates and finalists on the search and validation
    splits, and where runs are compared with each other it is by the validation split. Where a training ends by itself,
    it is by images that it has not seen: the search split, and the validation split if that is not needed any more.

    Args:
        last: whether this is the last round, and the run is not compared with others.
    """
    section, data = context.config.fine_tuning, context.data
    settings = settings_in_full(section, seed=context.config.seed)
    if settings.restarts:
        return FullTraining(settings=settings, images=data.train, judge=data.search_and_val() if last else data.search)
    if last:
        return FullTraining(settings=settings, images=data.everything_but_test(), judge=None)
    return FullTraining(settings=settings, images=data.train, judge=data.search)
