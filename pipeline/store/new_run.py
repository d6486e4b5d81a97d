"""New runs: a folder with everything that a later resume needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import OutputError, StoreError
from pipeline.records import Device
from pipeline.store import Store
from pipeline.store.facts import CONFIG, DEVICE, FOLDER, INVENTORY, Fact, NamedDevice
from pipeline.store.writable import try_out


def create_run(runs: Path, config: RunConfig, board: Device, inventory: Path | None, *, note: str = "") -> Store:
    """Return the open store of a new run.

    Args:
        note: added to the run's name.

    Raises:
        OutputError: the folder cannot be written.
    """
    facts: dict[Fact[Any], object] = {
        CONFIG: config.model_dump(mode="json", by_alias=True),
        DEVICE: NamedDevice(name=board.name, kind=board.kind),
        FOLDER: str(Path.cwd()),
    }
    if inventory is not None:
        facts[INVENTORY] = str(inventory.absolute())
    try:
        return Store.create(runs, label=f"{config.data.partition(':')[0]}-{board.name} {note}", facts=facts)
    except StoreError as error:
        raise OutputError(str(error)) from error


def require_writable(folder: Path) -> None:
    """Try out whether something could be stored, before anything is loaded for it; nothing is left behind.

    Raises:
        OutputError: the folder cannot be made or written, or has no room.
    """
    try:
        try_out(folder)
    except StoreError as error:
        raise OutputError(str(error)) from error
