"""Boards of one run: several registered devices of one kind, as the one device that they stand for; kinds apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.devices.inventory.load import Inventory
from pipeline.errors import InventoryError
from pipeline.records import Device


def device_of(inventory: Inventory, names: Sequence[str]) -> Device:
    """Return the device that names mean; of several, or of a group, one that stands for all of them.

    Raises:
        InventoryError: one is not registered, or they cannot measure for one search.

    >>> from pipeline.devices.inventory.load import load_inventory
    >>> device_of(load_inventory(), ["local"]).boards
    ()
    """
    return joined("+".join(names), _named(inventory, names))


def kinds_of(inventory: Inventory, names: Sequence[str]) -> list[Device]:
    """Return the devices that names mean, those that are alike as one; each kind needs a search of its own.

    Raises:
        InventoryError: one is not registered, or cannot measure beside the others.
    """
    alike: dict[tuple[str, ...], list[Device]] = {}
    for device in _named(inventory, names):
        alike.setdefault(tuple(of(device) for _, of in _ALIKE), []).append(device)
    if len(alike) == 1:
        return [device_of(inventory, names)]
    return [joined("+".join(device.name for device in devices), devices) for devices in alike.values()]


def names_of(device: Device) -> frozenset[str]:
    """Return what a target may call a device: itself, its boards, their group, their kind.

    >>> sorted(names_of(Device(name="group:lab", kind="linux", boards=(Device(name="a", kind="linux"),))))
    ['a', 'group:lab', 'lab', 'linux']
    """
    return frozenset({device.name, device.name.removeprefix("group:"), device.kind, *(b.name for b in device.boards)})


def joined(name: str, devices: Sequence[Device]) -> Device:
    """Return the one device that several boards of one kind stand for; of one alone, itself.

    Raises:
        InventoryError: they are of different kinds, or would measure in different ways.
    """
    if len(devices) == 1:
        return devices[0]
    first = devices[0]
    for what, of in _ALIKE:
        if {of(device) for device in devices} != {of(first)}:
            said = ", ".join(f"{device.name}: {of(device)}" for device in devices)
            raise InventoryError(
                f"boards of one search must be of one kind and measure alike; their {what} differs ({said}): name "
                "boards that are alike; `pipeline run` takes boards of several kinds, and searches once for each"
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


def _named(inventory: Inventory, names: Sequence[str]) -> list[Device]:
    found: dict[str, Device] = {}
    for device in (device for name in names for device in inventory.selected(name)):
        if device.name in found:
            raise InventoryError(f"{device.name} is named twice; a board measures for a run once")
        found[device.name] = device
    return list(found.values())


_ALIKE: Sequence[tuple[str, Callable[[Device], str]]] = (
    ("kind", lambda device: device.kind),
    ("format", lambda device: device.format),
    ("runtime", lambda device: ", ".join(device.runtimes or (device.runtime,))),
    ("number of threads", lambda device: str(device.measure.threads)),
    ("power sensor", lambda device: device.power.backend),
)
"""What has to be the same of boards whose figures mean the same."""
