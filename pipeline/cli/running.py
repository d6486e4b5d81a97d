"""`pipeline run`: opens or reopens the run's store, shows what happens, and says how to go on when it ends early."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import run as composition
from pipeline.cli.console import err, out, print_json
from pipeline.cli.live import view
from pipeline.cli.runs import print_comparison
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError, PipelineError, StoppedError, UserError
from pipeline.inventory import load_inventory
from pipeline.records import Device
from pipeline.store import Store, as_json
from pipeline.store.runs import FINISHED


def run_and_show(
    *,
    device: str | None,
    config: Path | None,
    options: Mapping[str, Any],
    resume: str | None,
    inventory: Path | None,
    root: Path,
    json: bool,
) -> None:
    """Run, or go on with a run, and print the end: the table, the report, the next command."""
    store, told, board = (
        _reopen(root, resume, device, inventory) if resume else _begin(root, device, config, options, inventory)
    )
    with store, _stop_on_interrupt() as stopping:
        err.print(
            f"[bold]{store.id}[/]  {told.data} on {board.name}, {' '.join(told.target) or 'no target'}, {told.strategy}"
        )
        try:
            with view() as listen:
                composition.execute(told, board, store, listen=listen, stopping=stopping)
        except PipelineError as error:
            _say_how_to_go_on(store, error)
            raise
        _print_end(store, json)


def _begin(
    root: Path, device: str | None, config: Path | None, options: Mapping[str, Any], inventory: Path | None
) -> tuple[Store, RunConfig, Device]:
    epochs = options.get("epochs")
    told = load_config(config, {name: value for name, value in options.items() if name != "epochs"})
    if epochs is not None:
        if epochs < 0:
            raise ConfigError("--epochs: must not be negative")
        told = told.model_copy(update={"recovery": told.recovery.model_copy(update={"epochs": epochs})})
    board = load_inventory(inventory).device(device or "local")
    store = Store.create(root, label=f"{told.data.partition(':')[0]}-{board.name}")
    store.set("config", told.model_dump(mode="json", by_alias=True))
    store.set("device", {"name": board.name, "kind": board.kind})
    return store, told, board


def _reopen(root: Path, resume: str, device: str | None, inventory: Path | None) -> tuple[Store, RunConfig, Device]:
    store = Store.open(root, resume, write=True)
    told = RunConfig.model_validate(store.get("config"))
    name = store.get("device")["name"]
    if device is not None and device != name:
        raise UserError(f"run {store.id} measured on {name}; figures of {device} cannot be compared with them")
    if store.get("finished"):
        raise UserError(f"run {store.id} is finished; `pipeline pull {store.id} --output DIR` writes its bundle")
    return store, told, load_inventory(inventory).device(name)


@contextmanager
def _stop_on_interrupt() -> Iterator[Any]:
    """Give a question "was I asked to stop?": Ctrl-C once asks, twice stops at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        err.print("finishing what is under way, then stopping; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _say_how_to_go_on(store: Store, error: PipelineError) -> None:
    if isinstance(error, StoppedError):
        return  # it says so itself
    if isinstance(error, UserError):
        store.finish("failed")
        if not store.trials():
            store.set("failure", str(error))
        return
    err.print(f"nothing measured is lost; to go on: [bold]pipeline run --resume {store.id}[/]")


def _print_end(store: Store, json: bool) -> None:
    if json:
        print_json(as_json(store))
        return
    print_comparison(store)
    out.print()
    out.print(f"report  {os.path.relpath(store.path / 'report.html')}")
    out.print(f"next    [bold]pipeline pull {store.id} --output my-model[/]")
    assert store.get("status") == FINISHED
