"""`pipeline runs` and `pipeline pull`: what ran, what was found, and the folder to deploy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pipeline import serialization
from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_FOLDER, DEFAULT_RUNS, Inventory, Json, Runs
from pipeline.cli.views.run import print_groups, print_run, table_of
from pipeline.errors import ConfigError
from pipeline.report.run_json import as_json
from pipeline.store import Store

app = typer.Typer(help="What ran: list, show, migrate.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or `latest`.")]

# Every verb takes --inventory, so that a script may pass it always; what is stored does not depend on it.


@app.command("list")
def list_runs(runs: Runs = DEFAULT_RUNS, inventory: Inventory = None, json: Json = False) -> None:  # noqa: ARG001
    """List the runs, the newest last."""
    found = Store.list(runs)
    if json:
        print_json([serialization.dump(summary) for summary in found])
        return
    if not found:
        out.print(f"no runs in {runs}; `pipeline run` starts one", markup=False)
        return
    table = table_of("run", "status", "device", "model", "data", "target", "trials", "best reward")
    for run in found:
        best = "" if run.best_reward is None else f"{run.best_reward:.3f}"
        table.add_row(*map(Text, (run.id, run.status, run.device, run.model or "default", run.data, run.target)),
                      str(run.trials), best)  # fmt: skip
    out.print(table)
    out.print(f"more of one: pipeline runs show {found[-1].id}", style="dim")


@app.command()
def show(
    run: Run,
    groups: Annotated[bool, typer.Option("--groups", help="What could be cut, and what stays whole and why.")] = False,
    runs: Runs = DEFAULT_RUNS,
    inventory: Inventory = None,  # noqa: ARG001
    json: Json = False,
) -> None:
    """Show a run's trials, its Pareto front and the one that was chosen."""
    with Store.open(runs, run) as store:
        if json:
            print_json(as_json(store))
        elif groups:
            print_groups(store)
        else:
            print_run(store)


@app.command()
def migrate(
    source: Annotated[
        Path, typer.Option("--from", metavar="DIR", help="The folder of runs; it stays as it is.")
    ] = DEFAULT_FOLDER,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Copy the runs of a folder into the database that --runs names; what is there already is passed over."""
    if isinstance(runs, Path):
        raise ConfigError(
            f"runs are migrated into a database, and {runs} is a folder; name one: "
            "--runs postgresql://USER@HOST/DATABASE?blobs=PLACE"
        )
    from pipeline.store.place import migrated

    found = []
    for one in migrated(source, runs):
        found.append(one)
        what = f"{one.trials} trials, {one.measurements} measurements, {one.blobs + one.files} files"
        said = {"copied": what, "left out": one.why}.get(one.outcome, "")
        err.print(f"{one.id}: {one.outcome}{', ' if said else ''}{said}", markup=False)
    if json:
        print_json([serialization.dump(one) for one in found])
    else:
        counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in ("copied", "there already")}
        out.print(f"{counts['copied']} copied, {counts['there already']} there already, of {len(found)}", markup=False)
    if any(one.outcome == "left out" for one in found):
        raise typer.Exit(1)


def pull(
    run: Run,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A folder that is new or empty.")],
    artifact: Annotated[str, typer.Option("--artifact", metavar="best|pareto|ID", help="Which network.")] = "best",
    condition: Annotated[
        str, typer.Option("--condition", metavar="CONDITION", help="Of a run with several: only what is for fog:3.")
    ] = "",
    format: Annotated[
        str, typer.Option("--format", metavar="LIST", help="onnx, tflite, tensorrt: a bundle each; default: the run's.")
    ] = "",
    precision: Annotated[
        str, typer.Option("--precision", metavar="LIST", help="float32, int8, fp16: a bundle each; default: the run's.")
    ] = "",
    runs: Runs = DEFAULT_RUNS,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Write the deployable bundle: the model file, manifest.json, labels, a runnable example, README."""
    from pipeline import api

    if format or precision:
        from pipeline.cli.commands.pull_formats import pull_formats  # torch takes seconds to import

        pull_formats(
            run, output, artifact, format, precision, condition=condition, runs=runs, inventory=inventory, json=json
        )  # fmt: skip
        return
    folders = api.pull(run, output, artifact=artifact, condition=condition, runs=runs, inventory=inventory)
    if json:
        print_json([{"artifact": name, "folder": str(folder.absolute())} for name, folder in folders.items()])
        return
    for name, folder in folders.items():
        out.print(Text("✓ ", style="green").append(f"{name} → {folder}", style="not bold default"))
    err.print(f"try it: cd {shlex.quote(str(next(iter(folders.values()))))} && python example.py IMAGE", markup=False)
