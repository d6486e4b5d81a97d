"""`pipeline`: init, devices, data, profile, run, runs, keys, pull, sign, verify, deploy, plan, apply and the rest."""

from __future__ import annotations

import logging
import os
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from pipeline import __version__
from pipeline.cli.commands import (
    adapt,
    apply,
    bundles,
    compare,
    data,
    deploy,
    devices,
    federate,
    plan,
    quantize,
    runs,
    tune,
)
from pipeline.cli.console import err, out, print_error, print_json
from pipeline.cli.options import (
    DEFAULT_RUNS,
    Budget,
    Conditions,
    Config,
    Criterion,
    Data,
    Devices,
    Epochs,
    Head,
    Inventory,
    Json,
    Mode,
    Model,
    OverBoards,
    Precision,
    Rounds,
    Runs,
    Seed,
    Strategy,
    Targets,
    TaskName,
    Trials,
    WarmStart,
    Weights,
    WeightsKey,
    Workers,
)
from pipeline.errors import OutputError, PipelineError
from pipeline.printable import printable_lines
from pipeline.regular_file import exists

app = typer.Typer(
    name="pipeline",
    help="Prune a trained CNN by what your own board measures, and pull a file to deploy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(devices.app, name="devices")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(bundles.app, name="keys")
app.add_typer(deploy.app, name="deploy")
app.add_typer(federate.app, name="federate")


def run_command() -> None:
    """Run a command; an expected failure is one line and an exit code."""
    # GNU OpenMP's threads wait for each other by spinning. Beside other work on the same cores that made training 25
    # times slower (0.4 steps a second instead of 10); with a short spin it is 3.5 times, and alone it costs 5 %.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _log_to_stderr(os.environ.get("PIPELINE_LOG", "warning"))
    try:
        app()
    except PipelineError as error:
        print_error(error)
        sys.exit(error.exit_code)


def _log_to_stderr(level: str) -> None:
    known = logging.getLevelNamesMapping()
    handler = RichHandler(console=err, show_path=False, show_time=False)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(
        level=known.get(level.upper(), logging.WARNING),
        handlers=[handler],
    )


class PrintableFormatter(logging.Formatter):
    """Formats records of every logger, a library's too, so that they can be shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text, its lines kept."""
        return printable_lines(super().format(record))


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write inventory.yaml and run.yaml.")] = Path(),
    inventory: Inventory = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    json: Json = False,
) -> None:
    """Write a commented inventory.yaml and run.yaml to start from."""
    places = {"inventory.yaml": inventory or folder / "inventory.yaml", "run.yaml": folder / "run.yaml"}
    there = [str(path) for path in places.values() if exists(path)]
    if there and not force:
        raise OutputError(f"{', '.join(there)} is there already; --force replaces it")
    for name, path in places.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((resources.files("pipeline") / "templates" / name).read_text("utf-8"), "utf-8")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
    if json:
        print_json({name: str(path) for name, path in places.items()})
        return
    for path in places.values():
        out.print(f"wrote {path}", markup=False)
    out.print("Next: register your board in inventory.yaml, then")
    out.print("  pipeline devices trust NAME && pipeline devices check NAME")
    out.print("  pipeline run --device NAME --config run.yaml")


@app.command()
def profile(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Any ONNX or TFLite file, or a bundle.")],
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="A registered device.")] = "local",
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Keep the raw samples, to play them back.")
    ] = None,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Measure a model file on a device: latency, power, energy, memory, temperature."""
    from pipeline import api  # the runtime takes a second to import
    from pipeline.cli.commands.profile import table
    from pipeline.cli.views.lock_wait import print_when_waiting

    with err.status(f"measuring {model.name} on {device} …"):
        measurement = api.profile(
            model, device=device, inventory=inventory, record=record, on_event=print_when_waiting()
        )
    if json:
        print_json(measurement)
    else:
        out.print(table(model, device, measurement))


@app.command()
def run(
    device: Devices = None,
    config: Config = None,
    model: Model = None,
    weights: Weights = None,
    weights_key: WeightsKey = None,
    head: Head = None,
    data: Data = None,
    condition: Conditions = None,
    task: TaskName = None,
    target: Targets = None,
    over_boards: OverBoards = None,
    trials: Trials = None,
    strategy: Strategy = None,
    mode: Mode = None,
    criterion: Criterion = None,
    precision: Precision = None,
    rounds: Rounds = None,
    epochs: Epochs = None,
    budget: Budget = None,
    warm_start: WarmStart = None,
    seed: Seed = None,
    workers: Workers = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the board's raw samples, so that the run can be played back.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: few trials, short fine-tuning; other settings still count.")
    ] = False,
    ladder: Annotated[
        int | None,
        typer.Option(
            "--ladder", metavar="N", help="Then make an adaptive bundle of N networks at most: pipeline adapt."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Write the bundle there when the run has ended.")
    ] = None,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Search, fine-tune, export and verify; without options, the built-in example on this machine."""
    from pipeline.cli.commands.run import RunArguments  # torch takes seconds to import
    from pipeline.cli.commands.run_kinds import run_kinds_and_show

    options: dict[str, Any] = {
        "model": model, "weights": weights, "weights_key": weights_key, "head": head, "data": data,
        "conditions": tuple(condition or ()), "task": task, "target": tuple(target or ()), "trials": trials,
        "strategy": strategy, "mode": mode, "criterion": criterion, "precision": precision, "rounds": rounds,
        "seed": seed, "over_boards": over_boards,
        "warm_start": warm_start,
    }  # fmt: skip
    arguments = RunArguments(
        devices=tuple(device or ()), config=config, options=options, epochs=epochs, budget=budget, resume=resume,
        inventory=inventory, runs=runs, record=record, quick=quick, output=output, workers=workers,
        ladder=ladder,
    )  # fmt: skip
    run_kinds_and_show(arguments, json=json)


# Commands are listed in the order in which they are registered: what comes after a run comes after it.
app.command()(runs.pull)
app.command()(bundles.sign)
app.command()(bundles.verify)
app.command()(plan.plan)
app.command()(adapt.adapt)
app.command()(apply.apply)
app.command()(quantize.quantize)
app.command()(compare.compare)
app.command()(tune.tune)
