"""`pipeline run`: checks what was typed, opens the run's store, shows what happens, and says how to go on."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from deploy.folder import refuse_used
from pipeline import __version__
from pipeline.api import pull
from pipeline.cli.commands.adapt import free_folder, print_adapted, write_adapted
from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import runs_option
from pipeline.cli.signals import StartUp, stop_requested
from pipeline.cli.views.live import view
from pipeline.cli.views.run import print_comparison, print_recording
from pipeline.config import RunConfig, load_config, passes_of
from pipeline.devices.agent_client import Agent
from pipeline.devices.inventory.boards import device_of, kinds_of
from pipeline.devices.inventory.load import is_group, load_inventory
from pipeline.devices.recording import FILE_NAME, Recorder, as_recorded, header_of
from pipeline.durations import parse_duration_s
from pipeline.errors import ConfigError, PipelineError, UserError
from pipeline.records import Device
from pipeline.regular_file import exists
from pipeline.report.run_json import as_json
from pipeline.run.kinds import of_each_kind, on_device
from pipeline.run.lifecycle import see_through
from pipeline.run.stored_settings import stored_settings
from pipeline.store import RunsRoot, Store
from pipeline.store.conditions import chosen_artifacts
from pipeline.store.facts import CONFIG, DEVICE, RECORDING
from pipeline.store.new_run import create_run, require_place, require_writable
from pipeline.store.runs import FINISHED
from pipeline.workers.spec import workers_of

if TYPE_CHECKING:
    from pipeline.run.adaptation import AdaptSettings


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """What was typed after `pipeline run`."""

    devices: tuple[str, ...]
    """Names or groups; several measure side by side. Empty: local."""
    config: Path | None
    options: Mapping[str, Any]
    """The settings among the options, by the name that run.yaml gives them; None or empty: not typed."""
    epochs: str | None
    resume: str | None
    inventory: Path | None
    runs: RunsRoot
    budget: str | None = None
    record: bool = False
    """Whether the board's raw answers are kept, so that they can be played back."""
    quick: bool = False
    """A first look: few trials, short fine-tuning."""
    output: Path | None = None
    """Where the bundle goes when the run has ended; None: it is pulled by hand."""
    workers: str | None = None
    """Where candidates are built and trained; may be another place when a run is resumed."""
    ladder: int | None = None
    """How many networks, at most, an adaptive bundle of the finished run gets; None: none is made."""


def run_and_show(arguments: RunArguments, *, json: bool) -> None:
    """Run, or go on with a run, and print the end: the table, the report, the next command."""
    if arguments.output is not None:
        refuse_used(arguments.output, "bundle")
    with ExitStack() as stack:
        store, config, board = _reopened(arguments) if arguments.resume else (None, *typed_settings(arguments))
        ladder = None if arguments.ladder is None else _ladder_settings(config, arguments.ladder, arguments.quick)
        if store is not None:
            stack.enter_context(store)
        if store is None:
            require_place(arguments.runs)
        else:
            require_writable(store.path)
        stopping = stack.enter_context(stop_requested())
        with view() as show:
            store = seen_through(arguments, store, config, board, StartUp(show, stopping), stopping, stack)
        if ladder is not None:
            _adapt(store, ladder, arguments, json)
        else:
            _print_end(store, arguments, json)


def seen_through(
    arguments: RunArguments,
    store: Store | None,
    config: RunConfig,
    board: Device,
    start: StartUp,
    stopping: Callable[[], bool],
    stack: ExitStack,
) -> Store:
    """See a new run, or one that goes on, through; its store is open as long as ``stack``."""
    recorder = _recorder(arguments, store, board, stack)
    return see_through(
        config,
        board,
        lambda checked: stack.enter_context(create_run(arguments.runs, checked, board, arguments.inventory)),
        listen=start.listen,
        stopping=stopping,
        known=store,
        record=None if recorder is None else recorder.heard,
        starting=start.ended_at_once,
        around=partial(_announced, arguments, config, board, recorder),
    )


@contextmanager
def _announced(
    arguments: RunArguments, config: RunConfig, board: Device, recorder: Recorder | None, store: Store, agent: Agent
) -> Iterator[None]:
    """Say what is run, and how to go on where it ends early; its recording is begun."""
    if recorder is not None:
        _begin(recorder, store, config, agent)
    target = " ".join(config.target) or "no target"
    what = Text("run ").append(store.id, style="bold")
    under = f" ({', '.join(config.conditions)})" if config.conditions else ""
    where = _boards_in_words(board, config)
    err.print(what.append(f": {config.data}{under} on {where}, {target}, {config.strategy}"))
    try:
        yield
    except PipelineError:
        err.print(f"to resume: [bold]pipeline run --resume {store.id}{runs_option(arguments.runs)}[/]", markup=True)
        raise


def _boards_in_words(board: Device, config: RunConfig) -> str:
    if not board.boards:
        return board.name
    from pipeline.report.fleet import OVER

    return f"{board.name} ({', '.join(one.name for one in board.boards)}; latency: {OVER[config.over_boards]})"


# ---------------------------------------------------------------- a new run


def typed_settings(arguments: RunArguments) -> tuple[RunConfig, Device]:
    """Return the settings and the device that were typed.

    Raises:
        UserError: one of them cannot be used.
    """
    config = _typed_config(arguments)
    board = device_of(load_inventory(arguments.inventory, partial=True), arguments.devices or ("local",))
    return on_device(config, board), board


def typed_kinds(arguments: RunArguments) -> list[tuple[RunConfig, Device]]:
    """Return the settings and the device of the search on each kind of board that was typed.

    Raises:
        UserError: one of them cannot be used.
    """
    config = _typed_config(arguments)
    inventory = load_inventory(arguments.inventory, partial=True)
    return of_each_kind(config, kinds_of(inventory, arguments.devices or ("local",)))


def _typed_config(arguments: RunArguments) -> RunConfig:
    config = load_config(arguments.config, arguments.options, quick=arguments.quick)
    changes: dict[str, Any] = {}
    for option, typed, read in (
        ("epochs", arguments.epochs, passes_of),
        ("budget", arguments.budget, parse_duration_s),
    ):
        try:
            changes |= {} if typed is None else {option: read(typed)}
        except ValueError as error:
            raise ConfigError(f"--{option}: {error}, found {typed}") from error
    config = config.model_copy(update={"fine_tuning": config.fine_tuning.model_copy(update=changes)})
    return _with_workers(config, arguments)


def _with_workers(config: RunConfig, arguments: RunArguments) -> RunConfig:
    """Return the settings with the workers that were typed; they change no result, so a resumed run may have others."""
    if arguments.workers is None:
        return config
    try:
        return config.model_copy(update={"workers": workers_of(arguments.workers)})
    except ValueError as error:
        raise ConfigError(f"--workers: {error}, found {arguments.workers}") from error


# ---------------------------------------------------------------- a run to go on with


def _reopened(arguments: RunArguments) -> tuple[Store, RunConfig, Device]:
    assert arguments.resume is not None  # checked by the caller
    others = (arguments.epochs, arguments.budget, arguments.config)
    typed = [value for value in (*arguments.options.values(), *others) if value not in (None, ())]
    if typed or arguments.quick:
        raise UserError("--resume uses the settings of the original run; leave the other options out")
    with ExitStack() as undo:
        store = undo.enter_context(Store.open(arguments.runs, arguments.resume, write=True))
        if store.status == FINISHED:
            _write_missing_report(store)
            raise UserError(f"run {store.id} is finished; `pipeline pull {store.id} --output DIR` writes its bundle")
        device = store.get(DEVICE)
        name = None if device is None else device["name"]
        if name is not None and arguments.devices and not _is_named(arguments, name):
            raise UserError(
                f"run {store.id} measured on {name}; figures of {' and '.join(arguments.devices)} cannot be compared "
                "with them"
            )
        config, board = stored_settings(store, arguments.inventory)
        undo.pop_all()
    return store, _with_workers(config, arguments), board


def _is_named(arguments: RunArguments, name: str) -> bool:
    """Return whether what was typed means the device of that name; a group of one board is that board."""
    typed = arguments.devices
    if "+".join(typed) == name:
        return True
    inventory = load_inventory(arguments.inventory, partial=True)
    return any(map(is_group, typed)) and device_of(inventory, typed).name == name


def _write_missing_report(store: Store) -> None:
    """Write the report of a run that was killed between its end and its report."""
    path = store.path / "report.html"
    if not exists(path):
        from pipeline.report.html import write_report  # plotly takes its time to import

        write_report(store, path)
        err.print(f"wrote {path}, which was missing", markup=False)


# ---------------------------------------------------------------- the recording


def _recorder(arguments: RunArguments, store: Store | None, board: Device, stack: ExitStack) -> Recorder | None:
    """Return what hears the board's answers, where they are to be kept; a resumed run goes on as it began."""
    recorded = store is not None and store.get(RECORDING) is not None
    if arguments.record and store is not None and not recorded:
        raise UserError(
            f"run {store.id} began without --record, so that half of it could never be played back; leave "
            "--record out, or start a new run with it"
        )
    if not (arguments.record or recorded):
        return None
    if board.boards:
        raise UserError(
            f"--record keeps one board's answers, and {board.name} is {len(board.boards)} boards; leave it out, or "
            "name one"
        )
    recorder = Recorder(as_recorded(board).format)
    stack.callback(recorder.close)
    return recorder


def _begin(recorder: Recorder, store: Store, config: RunConfig, agent: Agent) -> None:
    about = {
        "seed": config.seed, "data": config.data, "model": config.model or "default", "strategy": config.strategy,
        "target": " ".join(config.target) or "none", "trials": config.trials, "run": store.id,
    }  # fmt: skip
    header = header_of(agent.device, about, {"pipeline": __version__}, agent.calibration().calibration)
    recorder.begin(store.path / FILE_NAME, header)
    store.set(RECORDING, FILE_NAME)


# ---------------------------------------------------------------- its ladder


def _ladder_settings(config: RunConfig, most: int, quick: bool) -> AdaptSettings:
    """Return what is wanted of the ladder.

    Raises:
        UserError: a run with these settings has none, which is better told before it than after.
    """
    from pipeline.run.adaptation import AdaptSettings, why_no_ladder

    if reason := why_no_ladder(config):
        raise UserError(f"--ladder: {reason}")
    return AdaptSettings(most=most, quick=quick, seed=config.seed)


def _adapt(store: Store, settings: AdaptSettings, arguments: RunArguments, json: bool) -> None:
    """Make the finished run's adaptive bundle, and print both ends."""
    if not json:
        print_found(store)
    try:
        folder = free_folder(store, arguments.output)
        found = write_adapted(store, settings, folder, arguments.inventory)
    except PipelineError:
        again = f"pipeline adapt {store.id} --ladder {settings.most}{' --quick' * settings.quick}"
        err.print(f"the run is finished; for its ladder: [bold]{again}{runs_option(arguments.runs)}[/]", markup=True)
        raise
    if json:
        print_json(as_json(store))
    else:
        print_adapted(store, found, folder)


# ---------------------------------------------------------------- the end

_EXAMPLE_S = 60.0


def _print_end(store: Store, arguments: RunArguments, json: bool) -> None:
    if json:
        print_json(as_json(store))
    else:
        print_found(store)
    bundle = None
    if arguments.output is not None:
        folders = pull(store.id, arguments.output, runs=arguments.runs)
        bundle = next(iter(folders.values()))
        for folder in folders.values():
            (err if json else out).print(f"bundle  {folder}", markup=False)
    if not json:
        print_next(store, arguments.runs, bundle)


def print_found(store: Store) -> None:
    """Print what a run has found, and where its report lies."""
    print_comparison(store)
    out.print()
    out.print(f"report  {os.path.relpath(store.path / 'report.html')}", markup=False)
    if store.get(RECORDING):
        print_recording(store)


def print_next(store: Store, runs: RunsRoot, bundle: Path | None) -> None:
    """Show the network at work on a real test image, or how to, and the commands that come next."""
    from pipeline.run.sample_file import sample_of

    sample = sample_of(store.path)
    image = "IMAGE" if sample is None else shlex.quote(os.path.relpath(sample))
    if bundle is not None and sample is not None:
        _print_example(bundle, sample)
    commands = [f"pipeline runs show {store.id}{runs_option(runs)}  # every trial"]
    if bundle is None:
        chosen = chosen_artifacts(store)
        own = f"/{chosen[0].id}" if len(chosen) > 1 else ""
        commands = [
            f"pipeline pull {store.id} --output my-model{runs_option(runs)}  # the folder{'s' * bool(own)} to deploy",
            f"python my-model{own}/example.py {image}",
        ]
    config = store.get(CONFIG)
    if config is not None and config.get("model") is None and config.get("data") == "digits":
        commands += [
            "pipeline run --model my_net.py:make --weights my_net.pt --data imagefolder:DIR  # your network and images",
            "pipeline init  # then register your board in inventory.yaml: pipeline run --device NAME",
        ]
    for number, command in enumerate(commands):
        words, comment, rest = command.partition("  #")
        line = Text("next    " if number == 0 else "        ").append(words, style="bold")
        out.print(line.append(comment + rest, style="dim"), soft_wrap=True)


def _print_example(bundle: Path, sample: Path) -> None:
    """Run the bundle's own example on a test image, as its user will."""
    words = [sys.executable, str(bundle / "example.py"), str(sample)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_EXAMPLE_S)
    shown = [shlex.quote(word) for word in (str(bundle / "example.py"), os.path.relpath(sample))]
    out.print(f"try     python {' '.join(shown)}", markup=False)
    for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines():
        out.print(f"        {line}", markup=False, style="dim")
