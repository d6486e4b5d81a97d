"""`pipeline runs` and `pipeline pull`: what ran, what was found, and the folder to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from deploy.bundle import write_bundle
from rich.table import Table

from pipeline import codec
from pipeline.bundling import bundle_facts, picked
from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS, Inventory, Json, Runs
from pipeline.errors import OutputError
from pipeline.records import Figures, SearchSpace, Trial
from pipeline.report.table import comparison
from pipeline.store import Store, as_json

app = typer.Typer(help="What ran: list, show.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or `latest`.")]


@app.command("list")
def list_runs(runs: Runs = DEFAULT_RUNS, inventory: Inventory = None, json: Json = False) -> None:  # noqa: ARG001 - every verb takes --inventory
    """List the runs, the newest last."""
    found = Store.list(runs)
    if json:
        print_json([codec.dump(summary) for summary in found])
        return
    if not found:
        out.print(f"no runs in {runs}; `pipeline run` starts one")
        return
    table = Table(
        "run", "status", "device", "model", "data", "target", "trials", "best reward", box=None, header_style="bold"
    )
    for run in found:
        best = "" if run.best_reward is None else f"{run.best_reward:.3f}"
        table.add_row(run.id, run.status, run.device, run.model, run.data, run.target, str(run.trials), best)
    out.print(table)


@app.command()
def show(run: Run, runs: Runs = DEFAULT_RUNS, inventory: Inventory = None, json: Json = False) -> None:  # noqa: ARG001 - every verb takes --inventory
    """Show a run's trials, its Pareto front and the one that was chosen."""
    with Store.open(runs, run) as store:
        if json:
            print_json(as_json(store))
            return
        print_run(store)


def print_run(store: Store) -> None:
    """Print trials, front, chosen plan and the table base vs pruned."""
    front = {t.index for t in store.pareto()}
    best = store.best()
    out.print(f"[bold]{store.id}[/]  {store.status}")
    table = Table("trial", "channels kept", "accuracy", "latency", "reward", "", box=None, header_style="bold")
    for trial in store.trials():
        table.add_row(*_row(trial, trial.index in front, best is not None and trial.index == best.index))
    out.print(table)
    out.print("[dim]★ best reward that meets the target   ◆ Pareto front   ✗ misses the target[/]")
    print_comparison(store)


def _row(trial: Trial, on_front: bool, best: bool) -> tuple[str, ...]:
    if trial.candidate is None or trial.measurement is None:
        return (
            str(trial.index),
            trial.key,
            "",
            "",
            "",
            f"[red]failed:[/] {(trial.failure or '').replace('[', chr(92) + '[')}",
        )
    ratio = trial.measurement.ratio
    latency = f"{trial.measurement.p50_ms.value:.3g} ms" + (f"  {ratio.value:.3f}×" if ratio else "")
    signs = ("★" if best else "") + ("◆" if on_front else "") + ("" if trial.feasible else "✗")
    reward = "" if trial.reward is None else f"{trial.reward:.3f}"
    return str(trial.index), trial.key, f"{trial.candidate.accuracy:.1%}", latency, reward, signs


def print_comparison(store: Store) -> None:
    """Print the table base vs pruned, once there is a chosen artifact."""
    chosen = next((a for a in store.artifacts() if a.chosen), None)
    if chosen is None:
        return
    space = codec.load(SearchSpace, store.get("space"))
    plan = ", ".join(f"{g.name} {lv} %" for g, lv in zip(space.groups, chosen.plan.levels, strict=True) if lv)
    table = Table("", "base", "pruned", "change", box=None, header_style="bold")
    for row in comparison(codec.load(Figures, store.get("base")), chosen.after):
        table.add_row(row.measure, row.base, row.pruned, row.change)
    out.print()
    out.print(table)
    if chosen.device_accuracy is not None and chosen.host_accuracy is not None:
        out.print(
            f"[dim]verified on the device with {chosen.verified_images} images: {chosen.device_accuracy:.1%} there, "
            f"{chosen.host_accuracy:.1%} on the host[/]"
        )
    out.print(f"[dim]pruned: {plan or 'nothing'}[/]")


def pull(
    run: Run,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A folder that is new or empty.")],
    artifact: Annotated[str, typer.Option("--artifact", metavar="best|pareto|ID", help="Which network.")] = "best",
    runs: Runs = DEFAULT_RUNS,
    inventory: Inventory = None,  # noqa: ARG001 - every verb takes --inventory
    json: Json = False,
) -> None:
    """Write the deployable bundle: model.onnx, manifest.json, labels, a runnable example, README."""
    with Store.open(runs, run) as store:
        chosen = picked(store, artifact)
        several = artifact == "pareto"
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise OutputError(
                f"{output} is not empty; give a new folder, so that nothing of yours is mixed with the bundle"
            )
        written = []
        for one in chosen:
            files = {name: store.blob(sha256) for name, sha256 in one.files.items()}
            folder = write_bundle(
                artifact=one, files=files, facts=bundle_facts(store), output=output / one.id if several else output
            )
            written.append({"artifact": one.id, "folder": str(folder)})
    if json:
        print_json(written)
        return
    for line in written:
        out.print(f"[green]✓[/] {line['artifact']} → [bold]{line['folder']}[/]")
    err.print(f"Try it:  cd {written[0]['folder']} && python example.py IMAGE")
