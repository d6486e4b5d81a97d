"""Boards by the names that the inventory gives them: deploy on one, ask what runs there, switch back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.answers import Deployed, Switched
from pipeline.deployment import push
from pipeline.deployment.push import OnStage, Pushed
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import UserError
from pipeline.records import Device


def deploy(
    bundle: Path | str,
    device: str,
    inventory: Path | str | None,
    *,
    measure: bool,
    on_stage: OnStage,
    on_event: Callable[[Mapping[str, object]], None],
) -> Pushed:
    """See :func:`pipeline.api.deploy`."""
    with open_agent(_board(device, inventory), on_event=on_event) as agent:
        return push.push(Path(bundle), agent, measure=measure, on_stage=on_stage)


def deployed(device: str, inventory: Path | str | None) -> Deployed:
    """See :func:`pipeline.api.deployed`."""
    with open_agent(_board(device, inventory)) as agent:
        return push.status(agent)


def roll_back(device: str, inventory: Path | str | None) -> Switched:
    """See :func:`pipeline.api.roll_back`."""
    with open_agent(_board(device, inventory)) as agent:
        return push.roll_back(agent)


def _board(name: str, inventory: Path | str | None) -> Device:
    device = load_inventory(inventory, partial=True).device(name)
    if device.recording is not None:
        raise UserError(f"{name} is a recording, on which nothing can be deployed; name a board")
    return device
