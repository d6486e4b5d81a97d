"""Choice of a runtime: of several that a device may use, the first that the agent finds on the board."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.devices import agent_plugins
from pipeline.records import Device, DeviceFacts


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """Which runtime is used, and why."""

    runtime: str
    why: str
    """In a sentence."""
    missing: str | None = None
    """The preferred one, where the board does not have it."""


def choose_runtime(device: Device, facts: DeviceFacts) -> RuntimeChoice:
    """Return the first of ``device.runtimes`` that is on the board; the last where none is."""
    wanted = device.runtimes
    found = next((name for name in wanted if name in facts.runtimes), None)
    if found is None:
        return RuntimeChoice(wanted[-1], f"none of {', '.join(wanted)} is on the board", wanted[0])
    where = agent_plugins.runtime_named(found, device.plugins).runs_on
    runs = f"networks run on the {where} with {found} {facts.runtimes[found]}"
    if found == wanted[0]:
        return RuntimeChoice(found, f"{runs}: the first of {', '.join(wanted)}, and the board has it")
    why = facts.broken_runtimes.get(wanted[0], f"python {facts.python} there finds no {wanted[0]}")
    return RuntimeChoice(found, f"{runs}: {why}", wanted[0])


def runtimes_in_words(device: Device) -> str:
    """Return the runtime of a device that is not connected yet.

    >>> runtimes_in_words(Device(name="n", kind="jetson-nano", runtimes=("tensorrt", "onnxruntime")))
    'tensorrt or onnxruntime'
    """
    return " or ".join(device.runtimes) or device.runtime
