"""Kinds of boards: which of a run's settings hold for a search on which of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pipeline.config import RunConfig
from pipeline.devices.inventory.boards import names_of
from pipeline.errors import ConfigError, nearest
from pipeline.records import Device
from pipeline.targets import targets_on


def on_device(config: RunConfig, device: Device) -> RunConfig:
    """Return the settings with the targets that hold on ``device``, as they would be typed for it alone.

    Raises:
        ConfigError: a target names another board.
    """
    ((settings, _),) = of_each_kind(config, [device])
    return settings


def of_each_kind(config: RunConfig, devices: Sequence[Device]) -> list[tuple[RunConfig, Device]]:
    """Return the settings of the search on each device: each with its own targets.

    Args:
        devices: one for each kind; one that stands for several boards has them in it.

    Raises:
        ConfigError: a target names a board that is none of them, or two of one metric hold on one.
    """
    names = [names_of(device) for device in devices]
    known = sorted(frozenset().union(*names))
    for target in config.targets:
        if target.on and target.on not in known:
            raise ConfigError(
                f"target {target}: the run measures on no {target.on}{nearest(target.on, known)}; there are: "
                f"{', '.join(known)}"
            )
    for device, each in zip(devices, names, strict=True):
        for one, other in itertools.combinations([target for target in config.targets if target.on in each], 2):
            if one.metric == other.metric:
                raise ConfigError(f"targets {one} and {other} both hold on {device.name}; leave one of them out")
    resolved = [targets_on(config.target, each) for each in names]
    return [
        (config if targets == config.target else config.model_copy(update={"target": targets}), device)
        for targets, device in zip(resolved, devices, strict=True)
    ]
