"""Run inputs: model, data, weights and targets, checked before anything is measured or written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from pipeline import plugins, structures
from pipeline.config import RunConfig, is_model_file
from pipeline.data import DataSet, Splits, load_data
from pipeline.data.conditions import Condition, mixture, parse_conditions, under
from pipeline.data.presets import preset_of
from pipeline.devices.agent_client import Agent
from pipeline.errors import ConfigError, ExportError, ModelError, TargetError, nearest
from pipeline.events import Listener, Note, Stage, StageProgress
from pipeline.export.format import Format, open_format
from pipeline.models import default_model, load_model
from pipeline.models.load import dimensions_of, file_side
from pipeline.objective.load import load_task
from pipeline.objective.task import Judged, Task
from pipeline.pruning.search_space import search_space
from pipeline.pruning.trace import notes, trace
from pipeline.records import SearchSpace
from pipeline.run.own_trainer import require_trainer
from pipeline.search.strategy_plugin import strategy_of, with_every_option
from pipeline.training.accelerator import keep_freed_memory, open_accelerator

CRITERIA = "pipeline.pruning.criteria"

EXAMPLES = 8
"""Real images with which networks are traced, checked and compared with their files."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Data, and a network that answers it."""

    config: RunConfig
    """With every setting of the strategy's own."""
    data: DataSet
    model: nn.Module
    """With the user's weights, or random ones where none were given or the run has its own already."""
    example: structures.Inputs
    network: fx.GraphModule
    """The model, traced with these weights."""
    conditions: Mapping[str, DataSet] = field(default_factory=dict)
    """The data under each condition that the config names, of which ``data`` is the mixture; empty: it names none."""


def load_inputs(
    config: RunConfig,
    *,
    weights_known: bool = False,
    splits: Splits | None = None,
    listen: Listener = lambda _: None,
) -> Inputs:
    """Load what the config names and try it out; the same seed gives the same random weights.

    Args:
        weights_known: the run has stored its base model's weights: the user's file is not needed any more.
        splits: what the run has stored; None: they are drawn.
        listen: hears how far a long check of the data has come, and what is skipped.

    Raises:
        UserError: an unknown name, a GPU that is not there, data that cannot be used or has changed, a network that
            cannot be traced.
    """
    strategy_of(config)
    config = with_every_option(config)
    plugins.load(CRITERIA, config.criterion)
    require_trainer(config)
    open_accelerator(config.accelerator)
    keep_freed_memory()
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    _require_backbone(config, weights_known)
    task = load_task(config.task)
    _require_learnable(config, task, listen)
    signals = _takes_signals(config) if task.puts_into_classes else None
    wanted = _conditions_of(config)
    clean = _clean_data(config, splits=splits, signals=signals, task=task, listen=listen)
    conditions = {str(one): under(clean, one, seed=config.seed) for one in wanted}
    data = _mixture(config, clean, conditions)
    example = next(data.train.batches(EXAMPLES))[0]
    model = load_model(
        config.model or default_model(data),
        classes=len(data.classes),
        channels=data.shape[0],
        weights=None if weights_known else config.weights,
        weights_key=config.weights_key,
        head=config.head,
        example=None if isinstance(example, tuple) else example,
        listen=listen,
    )
    if config.weights and not weights_known and data.fitting and data.fitting.resize is None:
        side = data.fitting.side
        usual = round(side * 256 / 224)
        how = f"images are scaled until they just cover {side} x {side}"
        listen(Note(f"{how}; where the weights were tested on centres of larger ones, say so: resize: {usual}"))
    network = trace(model, example, classes=len(data.classes), task=task)
    require_answers(network, data)
    return Inputs(config=config, data=data, model=model, example=example, network=network, conditions=conditions)


def require_answers(network: fx.GraphModule, data: DataSet) -> None:
    """Raise UserError where a traced network does not answer as the data's task wants, on the first examples.

    Raises:
        ModelError: of classes there are others than the data have.
        ConfigError: a function of the task fails with what the network answers.
    """
    example, targets = next(data.train.batches(EXAMPLES))
    if data.task.puts_into_classes:
        _require_scores(network, example, data)
    _try_task(network, example, targets, data.task)


def load_run_data(
    config: RunConfig,
    *,
    splits: Splits | None = None,
    signals: bool | None = None,
    task: Task | None = None,
    listen: Listener = lambda _: None,
) -> DataSet:
    """Load the data that the config names, read and normalised as it says, and under the conditions that it names.

    Args:
        splits: what the run has stored; None: they are drawn.
        signals: see ``load_data``.
        task: the config's; None: it is loaded.
        listen: hears how far a long check of the data has come, and what is skipped.

    Raises:
        DataError: they cannot be used, or have changed since ``splits`` were drawn.
    """
    wanted = _conditions_of(config)
    clean = _clean_data(config, splits=splits, signals=signals, task=task, listen=listen)
    return _mixture(config, clean, {str(one): under(clean, one, seed=config.seed) for one in wanted})


def _mixture(config: RunConfig, clean: DataSet, conditions: Mapping[str, DataSet]) -> DataSet:
    return mixture(list(conditions.values()), seed=config.seed) if conditions else clean


def _clean_data(
    config: RunConfig, *, splits: Splits | None, signals: bool | None, task: Task | None, listen: Listener
) -> DataSet:
    return load_data(
        config.data, seed=config.seed, image_size=config.side, network_side=file_side(config.model),
        resize=config.resize,
        interpolation=config.interpolation, preset=None if splits else preset_of(config.weights, config.model),
        signals=signals, mean=config.mean, std=config.std, max_unreadable=config.max_unreadable, splits=splits,
        task=task or load_task(config.task), listen=listen,
    )  # fmt: skip


def _takes_signals(config: RunConfig) -> bool | None:
    """Return whether the network is one of Conv1d; None: it has no convolution, or is not known yet.

    A data set of the user's own may give tensors of two dimensions, which are signals to the one and grey images to the
    other. How many classes there are is not known before, so the network is built once more for this.
    """
    if config.model is None or not config.data.startswith("dataset:"):
        return None
    if ":" not in config.model and not is_model_file(config.model):  # those of the zoo are all for images
        return False
    with torch.random.fork_rng(devices=[]):
        try:
            dimensions = dimensions_of(load_model(config.model, classes=2, channels=1, weights=None))
        except ModelError:  # said when it is built for the data
            return None
    return None if dimensions is None else dimensions == 1


def require_fit(inputs: Inputs, agent: Agent, listen: Listener) -> Format:
    """Return the format in which networks are written for the device, tried out with this one.

    Raises:
        UserError: the device cannot do what was asked, or the network cannot be pruned or written for it; says what
            to change.
        ConverterError: the format's converter cannot be had.
    """
    _require_sensor(inputs.config, agent)
    network = inputs.network
    for sentence in notes(network).sentences():
        listen(Note(sentence))
    pruning = inputs.config.pruning
    step = agent.device.channel_step or 1  # where it is not known, it is measured later
    space = search_space(
        network, inputs.example, step=step, protect=pruning.protect, only=pruning.only, minimum=pruning.min_channels
    )
    _require_groups(inputs.config, space)
    return format_of(inputs, agent, listen)


def format_of(inputs: Inputs, agent: Agent, listen: Listener) -> Format:
    """Return the format in which networks are written for the device, tried out with this one.

    Raises:
        ModelError: the network cannot be written in it.
        ConverterError: the format's converter cannot be had.
    """
    name = agent.device.format
    listen(Stage(f"Write the network as {name}"))
    try:
        format = open_format(name, inputs.network, inputs.example, support=agent.onnx_support, on_note=_counted(listen))
        format.file(inputs.network)
    except ExportError as error:
        raise ModelError(f"{error}; nothing was trained or pruned yet") from error
    return format


def _conditions_of(config: RunConfig) -> tuple[Condition, ...]:
    """Return the conditions that the config names.

    Raises:
        DataError: there is no such condition, or one is named twice.
        ConfigError: they are several, and so are the rounds.
    """
    found = parse_conditions(config.conditions)
    if len(found) > 1 and config.rounds > 1:
        raise ConfigError(
            f"rounds: {config.rounds} cuts one network further, and {len(found)} conditions make a network each; leave "
            "rounds out, or name one condition"
        )
    return found


def _require_backbone(config: RunConfig, weights_known: bool) -> None:
    """Refuse a new last layer on nothing; a network of the user's own may bring its weights by itself."""
    if config.head == "new" and not (config.is_trained or weights_known or ":" in (config.model or "")):
        raise ConfigError(
            "head: new trains a new last layer on a trained network, but no weights are given; add --weights FILE, or "
            "leave --head out to train everything"
        )


def _counted(listen: Listener) -> Callable[[str], None]:
    """Return what tells of each piece of a long preparation as one more step."""
    steps = itertools.count(1)
    return lambda note: listen(StageProgress(next(steps), note))


def _require_learnable(config: RunConfig, task: Task, listen: Listener) -> None:
    """Refuse settings that a task has no use for; say where the teacher has none."""
    for name, section in (("fine_tuning", config.fine_tuning), ("base_training", config.base_training)):
        usual = type(section).model_fields["label_smoothing"].default
        if section.label_smoothing not in (0, usual) and not task.takes("label_smoothing"):
            raise ConfigError(
                f"{name}.label_smoothing is {section.label_smoothing:g}, and the loss of task {task.name} takes none; "
                "leave it out, or give that loss a parameter label_smoothing"
            )
    if config.head == "new" and not task.puts_into_classes:
        raise ConfigError(
            f"head: new makes a last layer for the data's classes, and task {task.name} puts nothing into classes; "
            "leave it out, and give the network the layer that it needs"
        )
    if config.fine_tuning.teacher_mix and task.teacher_loss is None:
        listen(Note(f"task {task.name} has no teacher_loss: fine-tuning learns from the targets alone"))


def _try_task(network: fx.GraphModule, example: structures.Inputs, targets: Any, task: Task) -> None:
    """Raise ConfigError where a function of the task fails on the first examples, before anything is measured."""
    with torch.no_grad():
        outputs = structures.answer(network, example)
        loss = task.loss_of(outputs, targets)
        if task.teacher_loss is not None:
            task.distillation(outputs, outputs, temperature=1.0)
    if not loss.is_floating_point():
        raise ConfigError(f"task {task.name}: loss returned {loss.dtype}, expected a float tensor; fix it")
    judged = Judged(task)
    judged.add(outputs, targets)
    judged.score()


def _require_scores(network: fx.GraphModule, example: structures.Inputs, data: DataSet) -> None:
    count = structures.count(example)
    with torch.inference_mode():
        found = tuple(structures.answer(network, example).shape)
    wanted = (count, len(data.classes))
    if found != wanted:
        raise ModelError(
            f"the network answers {count} images with a tensor of shape {found}; {data.name} has "
            f"{wanted[1]} classes, so expected is {wanted}: give the network as many outputs"
        )


def _require_sensor(config: RunConfig, agent: Agent) -> None:
    for target in config.targets:
        if target.metric in ("power", "energy") and agent.power_backend == "null":
            raise TargetError(
                f"target {target}: {agent.device.name} has no power sensor that can be read; give it one (power: in "
                f"inventory.yaml; `pipeline devices check {agent.device.name}` says what is missing), or leave the "
                "target out"
            )


def _require_groups(config: RunConfig, space: SearchSpace) -> None:
    known = [group.name for group in space.groups]
    for name in config.reward.layers:
        if name not in known:
            raise ConfigError(f"reward.layers: no group {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
