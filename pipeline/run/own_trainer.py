"""Trainer of the user's own: imported, called, and what it returns verified; a failure leaves a run that resumes."""

from __future__ import annotations

import copy
import inspect
from functools import partial

from torch import fx

from pipeline.config import RunConfig
from pipeline.data.dataset import Split
from pipeline.errors import ConfigError, PipelineError, TrainerError
from pipeline.events import Note, Stage
from pipeline.import_path import imported, said
from pipeline.run.context import Context
from pipeline.store.facts import TRAINER
from pipeline.training.score import score
from pipeline.training.settings import FineTuning
from pipeline.training.user_trainer import Training, require_trained
from pipeline.user_code import code_of


def require_trainer(config: RunConfig) -> None:
    """Refuse a trainer that cannot be imported or called, before anything is begun.

    Raises:
        ConfigError: says what is wrong with it.
    """
    name = config.fine_tuning.trainer
    if name is None:
        return
    if ":" not in name:
        raise ConfigError(f"fine_tuning.trainer is {name}; write FILE.py:FUNCTION, such as my_trainer.py:fit")
    with imported(name, ConfigError, "trainer") as fit:
        if not _takes_one_argument(fit):
            raise ConfigError(f"{name} is not a function of one argument, fit(training); see docs/extending/trainer.md")


def train_by_own_trainer(
    context: Context,
    network: fx.GraphModule,
    teacher: fx.GraphModule,
    settings: FineTuning,
    images: Split,
    judge: Split | None,
    *,
    name: str,
    title: str,
    hold_zeros: bool,
) -> None:
    """Train ``network`` in place by the user's ``fit(training)``.

    Raises:
        TrainerError: it raised, or what it returned is not the network with other finite weights.
    """
    trainer = str(context.config.fine_tuning.trainer)
    context.listen(Stage(f"{title}, by {trainer}"))

    def report(done: int, total: int | None = None, note: str = "") -> None:
        context.report_progress(done, f"of {total}, {note}" if total else note)

    task = context.data.task
    teacher_loss = None if task.teacher_loss is None else partial(task.distillation, temperature=settings.temperature)
    training = Training(
        network=copy.deepcopy(network), teacher=copy.deepcopy(teacher).eval(), images=images, validation=judge,
        classes=context.data.classes, epochs=None if settings.restarts else settings.epochs,
        max_epochs=settings.epochs, budget_s=settings.budget_s, seed=settings.seed, hold_zeros=hold_zeros,
        device=context.accelerator.device, score=lambda net: None if judge is None else score(net, judge, task),
        metric=task.metric_name, loss=partial(task.loss_of, label_smoothing=settings.label_smoothing),
        teacher_loss=teacher_loss, report=report,
        slot=context.store.checkpoint(name),
    )  # fmt: skip
    with imported(trainer, ConfigError, "trainer") as fit, context.accelerator.seeded(settings.seed):
        code = code_of((trainer,))
        try:
            returned = fit(training)
        except PipelineError:  # the run is to stop, or its data cannot be read
            raise
        except (Exception, SystemExit) as error:  # a user's trainer may raise anything
            raise TrainerError(f"{trainer} raised {said(error)}; fix it") from error
    network.load_state_dict(require_trained(trainer, network, returned, hold_zeros=hold_zeros))
    network.eval()
    context.stop_if_requested()
    context.store.set(TRAINER, code)
    context.listen(Note(f"{trainer} returned a network of the same structure, every weight finite"))


def _takes_one_argument(fit: object) -> bool:
    if not callable(fit):
        return False
    try:
        inspect.signature(fit).bind(object())
    except TypeError:
        return False
    except ValueError:  # what it takes is not known, as of some built-in ones
        return True
    return True
