"""A new run's folder, with all that is needed to go on with it some other day."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import RunConfig
from pipeline.errors import OutputError, StoreError
from pipeline.records import Device
from pipeline.store import Store


def begin(runs: Path, told: RunConfig, board: Device, inventory: Path | None, *, note: str = "") -> Store:
    """Return the open store of a new run.

    Args:
        note: added to the run's name.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        store = Store.create(runs, label=f"{told.data.partition(':')[0]}-{board.name} {note}")
    except StoreError as error:
        raise OutputError(str(error)) from error
    store.set("config", told.model_dump(mode="json", by_alias=True))
    store.set("device", {"name": board.name, "kind": board.kind})
    store.set("folder", str(Path.cwd()))
    store.set("inventory", str(inventory.absolute()) if inventory else None)
    return store
