"""Provenance of a run: device, input, seed, versions, git state."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

from pipeline.data import DataSet
from pipeline.devices.agent_client import Agent
from pipeline.events import Listener, Note
from pipeline.export.format import INPUT as INPUT_NAME
from pipeline.export.format import OUTPUT as OUTPUT_NAME
from pipeline.export.format_plugin import portable_format
from pipeline.export.signature import Signature
from pipeline.objective.load import portable_task
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
    TASK,
    VERSIONS,
    Input,
    NamedDevice,
    NamedShape,
    StoredTask,
)

_PACKAGES = (
    "torch", "torchvision", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "numpy", "scikit-learn",
    "paramiko",
)  # fmt: skip


def store_provenance(context: Context, signature: Signature | None = None) -> None:
    """Store what the run is made of; a resumed run stores it anew, since the device may have been updated.

    Args:
        signature: of the network; None: it takes one tensor and answers with one for each class.
    """
    store, data, agent = context.store, context.data, context.agent
    device = agent.device
    if store.get(DEVICE_FACTS) is None and not context.boards.several:  # a calibration is of one board
        remember_calibration(store, agent, context.listen)
    named = NamedDevice(name=context.boards.name, kind=device.kind, power=agent.power_backend, runtime=device.runtime)
    if context.boards.several:
        named["boards"] = list(context.boards.names)
    store.set(DEVICE, named)
    store.set(FORMAT, portable_format(device.format))
    store.set(DEVICE_FACTS, agent.facts)
    store.set(CLASSES, list(data.classes))
    store.set(TASK, _task(data, signature))
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


def _task(data: DataSet, signature: Signature | None) -> StoredTask:
    shapes: tuple[tuple[int, ...], ...] = (data.shape, *data.more_shapes)
    names: tuple[str, ...] = (INPUT_NAME,) if signature is None else signature.inputs
    outputs: dict[str, tuple[int, ...]] = {OUTPUT_NAME: (len(data.classes),)}
    if signature is not None:
        outputs = dict(zip(signature.outputs, signature.shapes, strict=False))
    return StoredTask(
        name=portable_task(data.task.name), metric=data.task.metric_name,
        puts_into_classes=data.task.puts_into_classes,
        inputs=[NamedShape(name=name, shape=list(shape)) for name, shape in zip(names, shapes, strict=True)],
        outputs=[NamedShape(name=name, shape=list(shape)) for name, shape in outputs.items()],
    )  # fmt: skip


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
