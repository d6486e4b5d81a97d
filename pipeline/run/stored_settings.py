"""Stored settings: a run's configuration and device, as it began with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig, is_model_file
from pipeline.devices.inventory.boards import joined
from pipeline.devices.inventory.load import Inventory, load_inventory
from pipeline.errors import UserError
from pipeline.plugins import is_file
from pipeline.records import Device
from pipeline.run.origin import require_same_origin
from pipeline.store import Store
from pipeline.store.facts import BASE, CONFIG, DEVICE, FOLDER, INVENTORY, NamedDevice
from pipeline.store.settings import config_of


def stored_settings(store: Store, inventory: Path | None) -> tuple[RunConfig, Device]:
    """Return the settings that a run began with, and its device as the inventory has it now.

    Args:
        inventory: None: the one that the run was started with.

    Raises:
        UserError: the run ended before they were stored, another version stored them, the device is not in the
            inventory any more, or the user's code has changed.
    """
    device = store.get(DEVICE)
    if store.get(CONFIG) is None or device is None:
        raise UserError(f"run {store.id} ended before its settings were stored; start it anew: pipeline run")
    require_same_origin(store)
    remembered = store.get(INVENTORY)
    known = load_inventory(inventory or (Path(remembered) if remembered else None), partial=True)
    folder = store.get(FOLDER)
    return _from_folder(config_of(store), Path(folder or "")), stored_device(known, device, store)


def stored_device(inventory: Inventory, named: NamedDevice, store: Store) -> Device:
    """Return a run's device as the inventory has it now, with the runtime that the run began with."""
    boards = [_with_its_runtime(inventory.device(name), store) for name in named.get("boards") or [named["name"]]]
    return joined(named["name"], boards)


def _with_its_runtime(board: Device, store: Store) -> Device:
    """Return the device with the runtime that the run chose when it began: figures of another are no use beside its."""
    if not board.runtimes:
        return board
    base = store.get(BASE)
    measured = base.measurement.runtime.partition(" ")[0] if base else ""  # an older version's run tells it there alone
    runtime = store.required(DEVICE).get("runtime") or measured
    return replace(board, runtime=runtime, runtimes=()) if runtime in board.runtimes else board


def _from_folder(config: RunConfig, folder: Path) -> RunConfig:
    """Return the settings with relative paths as they were meant: from the folder in which the run was started."""
    kind, colon, place = config.data.partition(":")
    changed: dict[str, Any] = {}
    if is_file(kind) and not kind.startswith("~"):
        changed["data"] = f"{folder / kind}{colon}{place}"
    elif place and not place.startswith("~") and (kind != "dataset" or ".py:" in place):
        changed["data"] = f"{kind}{colon}{folder / place}"
    for setting in ("strategy", "criterion"):
        if is_file(name := getattr(config, setting)) and not name.startswith("~"):
            changed[setting] = str(folder / name)
    if ".py" in config.task and not config.task.startswith("~"):
        changed["task"] = str(folder / config.task)
    if config.weights is not None:
        changed["weights"] = folder / config.weights
    model = config.model
    if model and (".py:" in model or is_model_file(model)) and not model.startswith("~"):
        changed["model"] = str(folder / model)
    trainer = config.fine_tuning.trainer
    if trainer and ".py:" in trainer and not trainer.startswith("~"):
        changed["fine_tuning"] = config.fine_tuning.model_copy(update={"trainer": str(folder / trainer)})
    return config if folder == Path.cwd() else config.model_copy(update=changed)
