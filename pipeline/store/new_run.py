"""New runs: begun with everything that a later resume needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import OutputError, StoreError, UserError
from pipeline.records import Device
from pipeline.store import RunsRoot, Store
from pipeline.store.facts import CONFIG, DEVICE, FEDERATED, FOLDER, INVENTORY, POLICY, Fact, NamedDevice
from pipeline.store.place import place_of
from pipeline.store.writable import try_out

OF_FEDERATION = "federated"
"""Behind the name of a run whose federated policy is meant."""


def create_run(runs: RunsRoot, config: RunConfig, board: Device, inventory: Path | None, *, note: str = "") -> Store:
    """Return the open store of a new run.

    Args:
        note: added to the run's name.

    Raises:
        OutputError: the place of the runs cannot be written.
        UserError: the run that it is to begin with keeps no policy.
    """
    facts: dict[Fact[Any], object] = {
        CONFIG: config.model_dump(mode="json", by_alias=True),
        DEVICE: _named(board),
        FOLDER: str(Path.cwd()),
    }
    if inventory is not None:
        facts[INVENTORY] = str(inventory.absolute())
    policy = None if config.warm_start is None else policy_of(runs, config.warm_start)
    try:
        store = Store.create(runs, label=f"{config.data.partition(':')[0]}-{board.name} {note}", facts=facts)
        if policy is not None:
            store.set(POLICY, store.put_blob(policy))
        return store
    except StoreError as error:
        raise OutputError(str(error)) from error


def policy_of(runs: RunsRoot, name: str) -> bytes:
    """Return what the last round of a run has learnt, a safetensors file.

    Args:
        runs: the folder of runs.
        name: of the run; with ``:federated`` behind it what the sites of its federation have learnt.

    Raises:
        RunNotFoundError: there is no such run.
        UserError: it has learnt nothing that is kept, or took part in no federation.
    """
    run, _, whose = name.partition(":")
    if whose not in ("", OF_FEDERATION):
        raise UserError(f"warm_start: {name}: behind the run's name stands nothing, or :{OF_FEDERATION}")
    with Store.open(runs, run) as store:
        if whose:
            return federated_policy(store)
        blob = last_policy(store)
        if blob is None:
            raise UserError(
                f"run {store.id} keeps no policy: it ended before its search was through, an older version made it, or "
                "its strategy has none; name a run of strategy dqn or hybrid"
            )
        return store.blob(blob).read_bytes()


def federated_policy(store: Store) -> bytes:
    """Return what the sites of a run's federation have learnt, a safetensors file.

    Raises:
        UserError: the run took part in none.
    """
    found = store.get(FEDERATED)
    if found is None:
        raise UserError(
            f"run {store.id} keeps no federated policy; `pipeline federate client {store.id} --server HOST:PORT` takes "
            "part in a federation"
        )
    return store.blob(found["policy"]).read_bytes()


def last_policy(store: Store) -> str | None:
    """Return the blob of what a run's last round has learnt; None: it keeps none."""
    config = store.get(CONFIG)
    rounds = 1 if config is None else int(config.get("rounds", 1))
    return next((blob for number in range(rounds, 0, -1) if (blob := store.get(POLICY.of(number)))), None)


def require_writable(folder: Path) -> None:
    """Try out whether something could be stored, before anything is loaded for it; nothing is left behind.

    Raises:
        OutputError: the folder cannot be made or written, or has no room.
    """
    try:
        try_out(folder)
    except StoreError as error:
        raise OutputError(str(error)) from error


def require_place(runs: RunsRoot) -> None:
    """Try out whether a run could be stored, as ``require_writable``; of a database, its tables are made."""
    try:
        place_of(runs).try_out()
    except StoreError as error:
        raise OutputError(str(error)) from error


def _named(board: Device) -> NamedDevice:
    named = NamedDevice(name=board.name, kind=board.kind)
    if board.boards:
        named["boards"] = [one.name for one in board.boards]
    return named
