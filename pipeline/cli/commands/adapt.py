"""`pipeline adapt`: a ladder of networks and a controller that chooses among them while they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS, Inventory, Json, Runs
from pipeline.cli.reopened import reopened
from pipeline.cli.views.run import table_of
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.records.adaptation import Adaptation, JudgedStreams
    from pipeline.run.adaptation import AdaptSettings

_EXAMPLE_S = 60.0


def adapt(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A finished run: its id, the beginning of one, or `latest`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="For the bundle, new or empty; default: RUN-adaptive."),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor", metavar="ACC", help="Accuracy on streams not to be missed; default: the chosen network's."
        ),
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option("--deadline-ms", metavar="N", help="Milliseconds that a frame may take.")
    ] = None,
    ladder: Annotated[int, typer.Option("--ladder", metavar="N", help="Networks at most.")] = 4,
    budget: Annotated[
        str, typer.Option("--budget", metavar="TIME", help="For training and trying out: 30m, 2h.")
    ] = "30m",
    quick: Annotated[bool, typer.Option("--quick", help="A first look: short training, few frames.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of streams and of what is learnt.")] = 0,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Make an adaptive bundle of a run: several networks, and what chooses among them frame by frame."""
    from pipeline import serialization

    with Store.open(runs, run, write=True) as store:
        folder = free_folder(store, output)
        found = write_adapted(store, _settings(floor, deadline_ms, ladder, budget, quick, seed), folder, inventory)
        if json:
            print_json({"folder": str(folder.absolute()), "adaptation": serialization.dump(found)})
        else:
            print_adapted(store, found, folder)


def free_folder(store: Store, typed: Path | None) -> Path:
    """Return where the bundle goes, which is new or empty and can be written."""
    from deploy.folder import refuse_used
    from pipeline.store.new_run import require_writable

    folder = typed or Path(f"{store.id}-adaptive")
    refuse_used(folder, "bundle")
    require_writable(folder)
    return folder


def _settings(
    floor: float | None, deadline_ms: float | None, ladder: int, budget: str, quick: bool, seed: int
) -> AdaptSettings:
    from pipeline.durations import parse_duration_s

    err.print("[dim]Load torch[/]", markup=True)
    from pipeline.run.adaptation import AdaptSettings  # torch takes seconds to import

    return AdaptSettings(
        floor=floor, deadline_ms=deadline_ms, most=ladder, budget_s=parse_duration_s(budget), quick=quick, seed=seed
    )


def write_adapted(store: Store, settings: AdaptSettings, folder: Path, inventory: Path | None) -> Adaptation:
    """Adapt a finished run on its device, and write the bundle."""
    from pipeline.run.adaptation import adapt as adapt_run
    from pipeline.run.adaptation import require_adaptable
    from pipeline.run.adaptive_bundle import write_adaptive

    require_adaptable(store)
    with reopened(store, inventory, "variants") as run:
        found = adapt_run(run.ready, store, settings, listen=run.listen, stopping=run.stopping)
    write_adaptive(store, found, folder, inventory)
    return found


# ---------------------------------------------------------------- what is printed


def print_adapted(store: Store, found: Adaptation, folder: Path) -> None:
    """Print the ladder, what ships beside its opponents, and the bundle's controller at work."""
    from pipeline.report.adaptation import shares

    table = table_of("variant", "latency", "cost", "clean", "corrupted", "file")
    for one in found.variants:
        latency = f"{one.latency_ms.value:.3g} ms ±{one.latency_ms.half_width:.1g}"
        row = (one.name, latency, f"{one.cost:.2f}×", shares(one.clean), shares(one.corrupted))
        table.add_row(*row, f"{one.size_bytes / 1e3:,.0f} kB")
    out.print(table)
    meaning = f"cost: {found.cost_of} of an inference, plain = 1; clean, corrupted: right answers to unseen images"
    out.print(meaning, style="dim")
    for dropped in found.dropped:
        out.print(f"{dropped.name} is left out: {dropped.why}", markup=False, style="dim")
    for judged in found.judged:
        out.print()
        _print_streams(judged, found.ships)
    out.print()
    said = "the rule" if found.ships == "rule" else "the learned policy"
    out.print(f"ships   {said}: {found.why}", markup=False)
    out.print(f"rule    {found.rule}", markup=False)
    out.print(f"        a decision takes {found.decision_us:.0f} µs here", markup=False, style="dim")
    out.print(f"report  {store.path / 'adaptation.html'}", markup=False)
    out.print(Text("✓ ", style="green").append(f"{folder}: controller.py chooses among {len(found.variants)} networks"))
    _print_example(folder)


def _print_streams(judged: JudgedStreams, ships: str) -> None:
    """Print what ships beside every variant and every opponent."""
    from pipeline.report.adaptation import cells, in_brackets

    below = [f"cost at −{100 * one:g} points" if one else "cost at 0" for one in judged.below]
    table = table_of(judged.name, "right", "cost", "late", "switches", "kept", *below, "what ships costs, at −1")
    for one in judged.methods:
        is_compared = any(r.over == one.name for r in judged.ratios)
        shown = in_brackets(judged.ratio(one.name, 0.01)) if is_compared else ""
        name = Text(one.name, style="bold" if one.name == ships else "")
        table.add_row(name, *cells(one), shown)
    out.print(table)
    out.print(
        f"{judged.count} held-out streams of {judged.length} frames; points under the best fixed variant, "
        f"{judged.best_fixed}: {judged.best_accuracy:.1%}; switches in 1,000 frames; a frame that is answered takes "
        f"{judged.p50_ms:.3g} ms, {judged.p99_ms:.3g} ms at the 99th percentile",
        style="dim", markup=False,
    )  # fmt: skip


def _print_example(folder: Path) -> None:
    """Run the bundle's controller, as its user will."""
    words = [sys.executable, str(folder / "controller.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_EXAMPLE_S)
    out.print(f"try     python {folder / 'controller.py'} IMAGE ...", markup=False)
    for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines():
        out.print(f"        {line}", markup=False, style="dim")
