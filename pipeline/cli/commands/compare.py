"""`pipeline compare`: several runs beside each other, and static baselines beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.options import DEFAULT_RUNS, Inventory, Json, Runs
from pipeline.cli.reopened import reopened
from pipeline.errors import ConfigError, OutputError, UserError
from pipeline.regular_file import is_folder
from pipeline.store import RunsRoot, Store

if TYPE_CHECKING:
    from pipeline.comparison.compare import Comparison
    from pipeline.comparison.run_figures import Entry
    from pipeline.records import Baseline
    from pipeline.store.pruning_frequency import PruningFrequency


def compare(
    run: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids, the beginnings of ids, `latest`, or folders of runs.")
    ],
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Baselines for each run: no pruning, L1 magnitude, L1 in training, as fast on its device.",
        ),
    ] = False,
    rival: Annotated[
        list[str] | None,
        typer.Option(
            "--rival",
            metavar="MODEL:WEIGHTS",
            help="A network that you might have taken instead, net.py:make:small.pt or small.onnx: it is measured on "
            "each run's device and scored on its data; repeatable.",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a line for each run, for other programs.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAME,...",
            help="One table with these metrics alone, such as test_accuracy,power_w,latency_ms,channels_gone.",
        ),
    ] = None,
    frequency: Annotated[
        bool, typer.Option("--frequency", help="How often each layer was pruned at each level, over trials and seeds.")
    ] = False,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Compare finished runs: seeds make groups, groups are tested against each other."""
    from pipeline.comparison.compare import comparison  # scipy takes its time to import

    wanted = _metrics(columns)
    opened = _distinct(_place(runs, name) for name in run)
    if baselines:
        _make_missing(opened, inventory)
    if rival:
        _measure_rivals(opened, rival, inventory)
    entries, left_out, beside = _read(opened, baselines)
    found = comparison(entries, left_out)
    if frequency:
        found = replace(found, frequencies=_frequencies(opened, found))
    if csv_file is not None:
        _write_csv(found, csv_file)
    if json:
        from pipeline import serialization

        made = {name: [serialization.dump(baseline) for baseline in of] for name, of in beside.items()}
        print_json({**serialization.dump(found), **({"baselines": made} if baselines else {})})
    else:
        from pipeline.cli.views.comparison import print_comparison

        print_comparison(found, wanted)


# ---------------------------------------------------------------- what is compared


def _metrics(columns: str | None) -> list[str]:
    """Return the metrics that a table is to have.

    Raises:
        ConfigError: one of them is none.
    """
    from pipeline.comparison.metrics import METRICS

    wanted = [name.strip() for name in (columns or "").split(",") if name.strip()]
    if unknown := next((name for name in wanted if name not in METRICS), None):
        raise ConfigError(f"--columns: {unknown!r} is no metric; choose among {', '.join(METRICS)}")
    return wanted


def _frequencies(opened: Sequence[tuple[RunsRoot, str]], found: Comparison) -> dict[str, PruningFrequency]:
    """Return how often the searches of each group pruned each layer; of baselines there are none."""
    from pipeline.store.pruning_frequency import pruning_frequency

    places = {name: runs for runs, name in opened}
    known = {}
    for group in found.groups:
        if group.differs.get("baseline"):
            continue
        with ExitStack() as stack:
            stores = [stack.enter_context(Store.open(places[run.run], run.run)) for run in group.runs]
            if (of := pruning_frequency(stores)) is not None:
                known[group.name] = of
    return known


def _place(runs: RunsRoot, name: str) -> tuple[RunsRoot, str]:
    """Return the place of runs and the id that a run's name or folder means."""
    folder = Path(name)
    if "/" in name and is_folder(folder):
        runs, name = folder.resolve().parent, folder.resolve().name
    with Store.open(runs, name) as store:
        return runs, store.id


def _distinct(found: Iterable[tuple[RunsRoot, str]]) -> list[tuple[RunsRoot, str]]:
    return list(dict.fromkeys(found))


def _read(
    opened: Sequence[tuple[RunsRoot, str]], baselines: bool
) -> tuple[list[Entry], dict[str, str], dict[str, list[Baseline]]]:
    """Return the entries, the runs left out with the reason, and each run's baselines.

    Raises:
        UserError: nothing is left to compare.
    """
    from pipeline.baselines.stored import baseline_entries, known_baselines, rival_entries
    from pipeline.comparison.run_figures import read

    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    beside: dict[str, list[Baseline]] = {}
    for runs, name in opened:
        with Store.open(runs, name) as store:
            try:
                entries.append(own := read(store))
            except UserError as error:
                left_out[name] = str(error)
                continue
            if baselines:
                beside[name] = known_baselines(store)
                entries += baseline_entries(store, own, beside[name])
                left_out |= {f"{name}, baseline {b.name}": b.why_not for b in beside[name] if b.figures is None}
            entries += rival_entries(store, own)
    if not entries:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise UserError(f"there is nothing to compare: {reasons}")
    return entries, left_out, beside


def _make_missing(opened: Sequence[tuple[RunsRoot, str]], inventory: Path | None) -> None:
    """Make the baselines that are not in the runs' stores yet; what is finished stays, however this ends."""
    from pipeline.baselines.stored import missing, require_cuts
    from pipeline.comparison.run_figures import read
    from pipeline.store.facts import DEVICE

    for runs, name in opened:
        with Store.open(runs, name) as store:
            try:
                read(store)
            except UserError:
                continue  # it is left out of the comparison, with the reason
            if not (wanted := missing(store)):
                continue
        with Store.open(runs, name, write=True) as store:
            require_cuts(store)
            device = store.required(DEVICE)["name"]
            err.print(f"baselines of run [bold]{name}[/] on {device}: {', '.join(wanted)}", markup=True)
            from pipeline.baselines.static import make_baselines  # torch takes seconds to import

            with reopened(store, inventory, "baselines") as run:
                make_baselines(run.ready, store, listen=run.listen, stopping=run.stopping)


def _measure_rivals(opened: Sequence[tuple[RunsRoot, str]], rivals: Sequence[str], inventory: Path | None) -> None:
    """Measure what is not in the runs' stores yet, and put it into their reports."""
    from pipeline.baselines.rival import measure_rivals, parse_rival  # torch takes seconds to import
    from pipeline.comparison.run_figures import read
    from pipeline.report.html import write_report

    specs = [parse_rival(rival) for rival in rivals]
    for runs, name in opened:
        with Store.open(runs, name) as store:
            try:
                read(store)
            except UserError:
                continue  # it is left out of the comparison, with the reason
        with Store.open(runs, name, write=True) as store:
            with reopened(store, inventory, "rivals") as run:
                measure_rivals(run.ready, store, specs, listen=run.listen, stopping=run.stopping)
            write_report(store, store.path / "report.html")


def _write_csv(found: Comparison, path: Path) -> None:
    from pipeline.comparison.metrics import METRICS

    known = [metric for metric in METRICS if any(metric in r.figures for g in found.groups for r in g.runs)]
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(["group", "run", "seed", *known])
            for group in found.groups:
                for one in group.runs:
                    lines.writerow([group.name, one.run, one.seed, *(one.figures.get(metric, "") for metric in known)])
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from error
