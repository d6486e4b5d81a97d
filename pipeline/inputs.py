"""What the user brings, checked as a whole before anything is measured or written."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from pipeline import plugins
from pipeline.agent import Agent
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, ExportError, ModelError, TargetError, nearest
from pipeline.events import Listener, Stage, Step
from pipeline.export.format import Format, open_format
from pipeline.pruning.groups import search_space
from pipeline.pruning.tracing import trace
from pipeline.records import SearchSpace
from pipeline.zoo import DataSet, default_model, load_data, load_model

STRATEGIES = "pipeline.search.strategies"
CRITERIA = "pipeline.pruning.criteria"

EXAMPLES = 8
"""Real images with which networks are traced, checked and compared with their files."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Data, and a network that answers it."""

    config: RunConfig
    data: DataSet
    model: nn.Module
    """With the user's weights, or random ones where none were given or the run has its own already."""
    example: Tensor


def load_inputs(config: RunConfig, *, weights_known: bool = False) -> Inputs:
    """Load what the config names and try it out; the same seed gives the same random weights.

    Args:
        weights_known: the run has stored its base model's weights: the user's file is not needed any more.

    Raises:
        UserError: an unknown name, data that cannot be used, a network that cannot be traced.
    """
    plugins.load(STRATEGIES, config.strategy)
    plugins.load(CRITERIA, config.criterion)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    model = load_model(
        config.model or default_model(data),
        classes=len(data.classes),
        channels=data.shape[0],
        weights=None if weights_known else config.weights,
    )
    inputs = Inputs(config=config, data=data, model=model, example=next(data.train.batches(EXAMPLES))[0])
    _require_scores(inputs)
    return inputs


def require_fit(inputs: Inputs, agent: Agent, listen: Listener) -> Format:
    """Return the format in which networks are written for the device, tried out with this one.

    Raises:
        UserError: the device cannot do what was asked, or the network cannot be pruned or written for it; says what
            to change.
        ConverterError: the format's converter cannot be had.
    """
    _require_sensor(inputs.config, agent)
    network = _traced(inputs)
    space = search_space(network, inputs.example, step=agent.channel_step)
    _require_groups(inputs.config, space)
    name = agent.device.format
    listen(Stage(f"Write the network as {name}"))
    try:
        format = open_format(name, network, inputs.example, limits=agent.limits, on_note=_counted(listen))
        format.file(network)
    except ExportError as error:
        raise ModelError(f"{error}; replace what cannot be written, before it is pruned") from error
    return format


def _counted(listen: Listener) -> Callable[[str], None]:
    """Return what tells of each piece of a long preparation as one more step."""
    steps = itertools.count(1)
    return lambda note: listen(Step(next(steps), note))


def _traced(inputs: Inputs) -> fx.GraphModule:
    return trace(copy.deepcopy(inputs.model), inputs.example)


def _require_scores(inputs: Inputs) -> None:
    with torch.inference_mode():
        found = tuple(_traced(inputs)(inputs.example).shape)
    wanted = (len(inputs.example), len(inputs.data.classes))
    if found != wanted:
        raise ModelError(
            f"the network answers {len(inputs.example)} images with a tensor of shape {found}; {inputs.data.name} has "
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
