"""Provenance of a run: device, input, seed, versions, git state."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

from pipeline.devices.agent_client import Agent
from pipeline.events import Listener, Note
from pipeline.export.format import INPUT as INPUT_NAME
from pipeline.export.format_plugin import portable_format
from pipeline.run.context import Context
from pipeline.store import Store
from pipeline.store.facts import (
    CALIBRATION,
    CLASSES,
    DEVICE,
    DEVICE_FACTS,
    FORMAT,
    GIT,
    INPUT,
    SEED,
    VERSIONS,
    Input,
    NamedDevice,
)

_PACKAGES = (
    "torch", "torchvision", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "numpy", "scikit-learn",
    "paramiko",
)  # fmt: skip


def store_provenance(context: Context) -> None:
    """Store what the run is made of; a resumed run stores it anew, since the device may have been updated."""
    store, data, agent = context.store, context.data, context.agent
    device = agent.device
    if store.get(DEVICE_FACTS) is None:
        remember_calibration(store, agent, context.listen)
    store.set(
        DEVICE, NamedDevice(name=device.name, kind=device.kind, power=agent.power_backend, runtime=device.runtime)
    )
    store.set(FORMAT, portable_format(device.format))
    store.set(DEVICE_FACTS, agent.facts)
    store.set(CLASSES, list(data.classes))
    fitted = data.fitting
    stored = Input(
        name=INPUT_NAME, shape=list(data.shape), mean=list(data.mean), std=list(data.std),
        fitting=None if fitted is None else {"resize": fitted.resize, "interpolation": fitted.interpolation},
    )  # fmt: skip
    store.set(INPUT, stored)
    store.set(SEED, context.config.seed)
    store.set(VERSIONS, {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}})
    if (git := _git_state()) is not None:
        store.set(GIT, git)


def remember_calibration(store: Store, agent: Agent, listen: Listener) -> None:
    """Store what is known of the device's intervals as a run begins; it goes by that to its end."""
    known = agent.calibration()
    if known.calibration is not None:
        store.set(CALIBRATION, known.calibration)
    elif known.why:
        listen(Note(f"not used: {known.why}"))


def _git_state() -> str | None:
    """Return the commit of the folder that the run was started in, ``-dirty`` with changes; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None if described.returncode == 0 else None
