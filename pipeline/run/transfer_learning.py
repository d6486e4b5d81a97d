"""Transfer learning: a network trained on other classes learns those of the data, its new last layer first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from pipeline.models import find_head
from pipeline.run.context import Context
from pipeline.run.training_stage import train_with_checkpoints
from pipeline.training.settings import FineTuning, settings_of

_HEAD, _WHOLE = "head", "whole"
TRAININGS = (_HEAD, _WHOLE)
"""Names of the checkpoints, to be forgotten once the weights are stored."""


def train_new_head(context: Context, model: nn.Module) -> None:
    """Train the last layer alone, then the whole network, in place; what was begun already goes on.

    While the last layer is random its gradients would spoil what the others know, so they stand still at first; only
    batch norm's statistics move to the new images from the beginning. The L1 penalty pulls at the others, so it waits
    for the second training as well.
    """
    section = context.config.base_training
    head = find_head(model)
    alone = replace(_settings(context, section.head_epochs, section.head_learning_rate), l1=0.0)
    with _others_frozen(model, head):
        _learn(context, model, alone, _HEAD, f"Train the new last layer ({head})")
    whole = _settings(context, section.whole_epochs, section.whole_learning_rate)
    _learn(context, model, whole, _WHOLE, "Train the whole network")


def _settings(context: Context, epochs: float, learning_rate: float) -> FineTuning:
    section = context.config.base_training
    min_steps = section.min_steps if epochs else 0
    settings = settings_of(section, epochs=epochs, min_steps=min_steps, seed=context.config.seed)
    return replace(settings, learning_rate=learning_rate)


@contextmanager
def _others_frozen(model: nn.Module, head: str) -> Iterator[None]:
    others = [value for name, value in model.named_parameters() if not name.startswith(f"{head}.")]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _learn(context: Context, model: nn.Module, settings: FineTuning, name: str, title: str) -> None:
    images = context.data.train
    if settings.steps(len(images)):
        train_with_checkpoints(context, model, images, settings, name=name, title=title, judge=context.data.search)
