"""`pipeline run`: checks what was typed, opens the run's store, shows what happens, and says how to go on."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.text import Text

from pipeline import __version__
from pipeline.api import note_failure
from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS
from pipeline.cli.signals import StartUp, asked_to_stop
from pipeline.cli.views.live import view
from pipeline.cli.views.run import print_comparison, print_recording
from pipeline.config import RunConfig, load_config
from pipeline.devices.agent_client import Agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.recording import FILE_NAME, Recorder, as_recorded, header_of
from pipeline.errors import ConfigError, PipelineError, UserError
from pipeline.events import Stage
from pipeline.plugins import is_file
from pipeline.records import Device
from pipeline.regular_file import exists
from pipeline.report.run_json import as_json
from pipeline.run.origin import require_same_origin
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, CONFIG, DEVICE, FOLDER, INVENTORY, RECORDING
from pipeline.store.new_run import create_run, require_writable
from pipeline.store.runs import FINISHED


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was typed after `pipeline run`."""

    device: str | None
    config: Path | None
    options: Mapping[str, Any]
    """The settings among the options, by the name that run.yaml gives them; None or empty: not typed."""
    epochs: float | None
    resume: str | None
    inventory: Path | None
    runs: Path
    record: bool = False
    """Whether the board's raw answers are kept, so that they can be played back."""


def run_and_show(asked: Asked, *, json: bool) -> None:
    """Run, or go on with a run, and print the end: the table, the report, the next command."""
    with ExitStack() as stack:
        store, told, board = _reopened(asked) if asked.resume else (None, *told_by(asked))
        if store is not None:
            stack.enter_context(store)
        require_writable(asked.runs if store is None else store.path)
        stopping = stack.enter_context(asked_to_stop())
        with view() as show:
            store = _seen_through(asked, store, told, board, StartUp(show, stopping), stopping, stack)
        _print_end(store, asked.runs, json)


def _seen_through(
    asked: Asked,
    store: Store | None,
    told: RunConfig,
    board: Device,
    start: StartUp,
    stopping: Callable[[], bool],
    stack: ExitStack,
) -> Store:
    """Check everything, only then make a new run's folder, and see the run through."""
    listen = start.listen
    with ExitStack() as opened:
        with start.ended_at_once():
            listen(Stage("Load torch"))
            from pipeline.run.runner import execute, prepared  # takes seconds: what was mistyped is told before
            from pipeline.run.splitting import stored_splits

            weights_known = store is not None and store.get(BASE_WEIGHTS) is not None
            recorder = _recorder(asked, store, board, stack)
            record = recorder.heard if recorder else None
            splits = None if store is None else stored_splits(store)
            ready = opened.enter_context(
                prepared(told, board, listen=listen, weights_known=weights_known, splits=splits, record=record)
            )
        if store is None:
            store = stack.enter_context(create_run(asked.runs, ready.inputs.config, board, asked.inventory))
        if recorder is not None:
            _begin(recorder, store, told, ready.agent)
        target = " ".join(told.target) or "no target"
        what = Text("run ").append(store.id, style="bold")
        err.print(what.append(f": {told.data} on {board.name}, {target}, {told.strategy}"))
        try:
            execute(ready, store, listen=listen, stopping=stopping)
        except PipelineError as error:
            note_failure(store, error)
            err.print(f"to go on: [bold]pipeline run --resume {store.id}{_where(asked.runs)}[/]", markup=True)
            raise
    return store


# ---------------------------------------------------------------- a new run


def told_by(asked: Asked) -> tuple[RunConfig, Device]:
    """Return the settings and the device that were typed.

    Raises:
        UserError: one of them cannot be used.
    """
    told = load_config(asked.config, asked.options)
    if asked.epochs is not None:
        if not 0 <= asked.epochs < math.inf:
            raise ConfigError(f"--epochs: should be a number from 0 on, found {asked.epochs:g}")
        told = told.model_copy(update={"recovery": told.recovery.model_copy(update={"epochs": asked.epochs})})
    return told, load_inventory(asked.inventory, partial=True).device(asked.device or "local")


# ---------------------------------------------------------------- a run to go on with


def _reopened(asked: Asked) -> tuple[Store, RunConfig, Device]:
    assert asked.resume is not None  # the caller asked
    typed = [value for value in (*asked.options.values(), asked.epochs, asked.config) if value not in (None, ())]
    if typed:
        raise UserError("--resume goes on with the settings that the run began with; leave the other options out")
    with ExitStack() as undo:
        store = undo.enter_context(Store.open(asked.runs, asked.resume, write=True))
        if store.status == FINISHED:
            _write_missing_report(store)
            raise UserError(f"run {store.id} is finished; `pipeline pull {store.id} --output DIR` writes its bundle")
        device = store.get(DEVICE)
        name = None if device is None else device["name"]
        if name is not None and asked.device not in (None, name):
            raise UserError(
                f"run {store.id} measured on {name}; figures of {asked.device} cannot be compared with them"
            )
        config, board = stored_settings(store, asked.inventory)
        undo.pop_all()
    return store, config, board


def _write_missing_report(store: Store) -> None:
    """Write the report of a run that was killed between its end and its report."""
    path = store.path / "report.html"
    if not exists(path):
        from pipeline.report.html import write_report  # plotly takes its time to import

        write_report(store, path)
        err.print(f"wrote {path}, which was missing", markup=False)


def stored_settings(store: Store, inventory: Path | None) -> tuple[RunConfig, Device]:
    """Return the settings that a run began with, and its device as the inventory has it now.

    Args:
        inventory: None: the one that the run was started with.

    Raises:
        UserError: the run ended before they were stored, another version stored them, the device is not in the
            inventory any more, or the user's code has changed.
    """
    told, device = store.get(CONFIG), store.get(DEVICE)
    if told is None or device is None:
        raise UserError(f"run {store.id} ended before its settings were stored; start it anew: pipeline run")
    require_same_origin(store)
    remembered = store.get(INVENTORY)
    board = load_inventory(inventory or (Path(remembered) if remembered else None), partial=True).device(device["name"])
    folder = store.get(FOLDER)
    try:
        config = RunConfig.model_validate(told)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"run {store.id} began with settings of another version of this program ({where}: "
            f"{error.errors()[0]['msg']}); go on with that version, or start a new run"
        ) from error
    return _from_folder(config, Path(folder or "")), board


def _from_folder(told: RunConfig, folder: Path) -> RunConfig:
    """Return the settings with relative paths as they were meant: from the folder in which the run was started."""
    kind, colon, place = told.data.partition(":")
    changed: dict[str, Any] = {}
    if is_file(kind) and not kind.startswith("~"):
        changed["data"] = f"{folder / kind}{colon}{place}"
    elif place and not place.startswith("~") and (kind != "dataset" or ".py:" in place):
        changed["data"] = f"{kind}{colon}{folder / place}"
    for setting in ("strategy", "criterion"):
        if is_file(name := getattr(told, setting)) and not name.startswith("~"):
            changed[setting] = str(folder / name)
    if told.weights is not None:
        changed["weights"] = folder / told.weights
    if told.model and ".py:" in told.model and not told.model.startswith("~"):
        changed["model"] = str(folder / told.model)
    return told if folder == Path.cwd() else told.model_copy(update=changed)


# ---------------------------------------------------------------- the recording


def _recorder(asked: Asked, store: Store | None, board: Device, stack: ExitStack) -> Recorder | None:
    """Return what hears the board's answers, where they are to be kept; a resumed run goes on as it began."""
    recorded = store is not None and store.get(RECORDING) is not None
    if asked.record and store is not None and not recorded:
        raise UserError(
            f"run {store.id} began without --record, so that half of it could never be played back; leave "
            "--record out, or start a new run with it"
        )
    if not (asked.record or recorded):
        return None
    recorder = Recorder(as_recorded(board).format)
    stack.callback(recorder.close)
    return recorder


def _begin(recorder: Recorder, store: Store, told: RunConfig, agent: Agent) -> None:
    about = {
        "seed": told.seed, "data": told.data, "model": told.model or "default", "strategy": told.strategy,
        "target": " ".join(told.target) or "none", "trials": told.trials, "run": store.id,
    }  # fmt: skip
    header = header_of(agent.device, about, {"pipeline": __version__}, agent.calibration().calibration)
    recorder.begin(store.path / FILE_NAME, header)
    store.set(RECORDING, FILE_NAME)


# ---------------------------------------------------------------- the end


def _where(runs: Path) -> str:
    """Return the option without which the next command would not find the run."""
    return "" if runs == DEFAULT_RUNS else f" --runs {shlex.quote(str(runs))}"


def _print_end(store: Store, runs: Path, json: bool) -> None:
    if json:
        print_json(as_json(store))
        return
    print_comparison(store)
    out.print()
    out.print(f"report  {os.path.relpath(store.path / 'report.html')}", markup=False)
    if store.get(RECORDING):
        print_recording(store)
    out.print(f"next    [bold]pipeline pull {store.id} --output my-model{_where(runs)}[/]", markup=True)
