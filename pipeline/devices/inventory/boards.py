"""Boards of one run: several registered devices of one kind, as the one device that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.devices.inventory.load import Inventory
from pipeline.errors import InventoryError
from pipeline.records import Device


def device_of(inventory: Inventory, names: Sequence[str]) -> Device:
    """Return the device that names mean; of several, or of a group, one that stands for all of them.

    Raises:
        InventoryError: one is not registered, or they cannot measure for one run.

    >>> from pipeline.devices.inventory.load import load_inventory
    >>> device_of(load_inventory(), ["local"]).boards
    ()
    """
    found: dict[str, Device] = {}
    for device in (device for name in names for device in inventory.selected(name)):
        if device.name in found:
            raise InventoryError(f"{device.name} is named twice; a board measures for a run once")
        found[device.name] = device
    return joined("+".join(names), list(found.values()))


def joined(name: str, devices: Sequence[Device]) -> Device:
    """Return the one device that several boards of one kind stand for; of one alone, itself.

    Raises:
        InventoryError: they are of different kinds, or would measure in different ways.
    """
    if len(devices) == 1:
        return devices[0]
    first = devices[0]
    for what, of_first, each in (
        ("kind", first.kind, [device.kind for device in devices]),
        ("format", first.format, [device.format for device in devices]),
        ("runtime", _runtimes(first), [_runtimes(device) for device in devices]),
        ("number of threads", str(first.measure.threads), [str(device.measure.threads) for device in devices]),
        ("power sensor", first.power.backend, [device.power.backend for device in devices]),
    ):
        if set(each) != {of_first}:
            said = ", ".join(f"{device.name}: {found}" for device, found in zip(devices, each, strict=True))
            raise InventoryError(
                f"boards of one run must be of one kind and measure alike; their {what} differs ({said}): name boards "
                "that are alike, or run once for each"
            )
    if recorded := next((device for device in devices if device.recording is not None), None):
        raise InventoryError(f"{recorded.name} is a recording, which knows its own run alone; leave it out")
    places = [(device.ssh.host, device.ssh.port) if device.ssh else device.agent_dir for device in devices]
    for number, place in enumerate(places):
        if place in places[:number]:
            other = devices[places.index(place)].name
            raise InventoryError(
                f"{devices[number].name} is the same board as {other}, and would wait for it; leave one of them out"
            )
    return replace(first, name=name, boards=tuple(devices))


def _runtimes(device: Device) -> str:
    return ", ".join(device.runtimes or (device.runtime,))
