"""A user's own network: ``package.module:factory`` or ``file.py:factory``, a function, a class or a ready network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any

from torch import nn

from pipeline.errors import ModelError
from pipeline.import_path import called, imported, parameters

CLASSES = (
    "num_classes", "n_classes", "nb_classes", "number_of_classes", "num_class", "n_class", "nclasses", "nclass",
    "classes", "num_labels", "num_outputs",
)  # fmt: skip
CHANNELS = ("in_channels", "in_chans", "input_channels", "num_input_channels", "in_ch")
"""What factories call the number of outputs, and of input channels; the first of them that is taken gets the number."""
CHANNELS_IF_REQUIRED = ("channels", "num_channels", "n_channels")
"""May as well be widths, so that they are given only where there is no default."""


def build(spec: str, *, classes: int, channels: int) -> nn.Module:
    """Import what stands before the colon and call what stands after it with the classes and channels it takes.

    Without classes, as of a regression, none are given.

    Raises:
        ModelError: it cannot be imported or found, raises, or returns something else than a network.
    """
    with imported(spec, ModelError, "network") as named:
        if isinstance(named, nn.Module):
            return copy.deepcopy(named)
        if not callable(named):
            raise ModelError(_not_callable(spec, named))
        model = called(named, spec, ModelError, _arguments(named, classes, channels))
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returned a {type(model).__name__}; it has to return a torch.nn.Module")
    return model


def _not_callable(spec: str, named: object) -> str:
    kind = type(named).__name__
    return f"{spec} is a {kind}; name a function or class that gives a torch.nn.Module, or a ready network"


def _arguments(factory: Callable[..., Any], classes: int, channels: int) -> dict[str, object]:
    taken = parameters(factory)
    arguments: dict[str, object] = dict.fromkeys(_first(CLASSES, taken), classes) if classes else {}
    if classes and not arguments and any(p.kind is Parameter.VAR_KEYWORD for p in taken):
        arguments[CLASSES[0]] = classes
    required = [p for p in taken if p.default is Parameter.empty]
    found = _first(CHANNELS, taken) or _first(CHANNELS_IF_REQUIRED, required)
    return arguments | dict.fromkeys(found, channels)


def _first(names: Sequence[str], taken: Sequence[Parameter]) -> list[str]:
    there = {p.name for p in taken if p.kind is not Parameter.POSITIONAL_ONLY}
    return [name for name in names if name in there][:1]
