"""`pipeline tune` at work: a line for each run, at the end the table, the best first, and how to use the best."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table
from rich.text import Text

from pipeline.cli.commands.run import RunArguments, typed_settings
from pipeline.cli.console import err, out, print_json
from pipeline.cli.exits import ended_at_once
from pipeline.cli.options import runs_option
from pipeline.cli.signals import stop_requested
from pipeline.cli.views.tuning_progress import RunLines
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, OutputError, PipelineError, TargetError
from pipeline.records import Figures
from pipeline.search.strategy_plugin import with_every_option
from pipeline.store import Store
from pipeline.store.new_run import require_place
from pipeline.tuning.loop import tune
from pipeline.tuning.objective import Objective, Outcome, ranked
from pipeline.tuning.ranges import Searched, parse_all
from pipeline.tuning.samplers import Name, method_of
from pipeline.tuning.settings import Settings, changed

if TYPE_CHECKING:
    from pipeline.tuning.runs import TunedRuns

BEST = "tuned.yaml"
"""In the best run's folder: its settings, for `pipeline run --config`."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was typed after `pipeline tune` for the search itself."""

    texts: tuple[str, ...]
    method: Name
    objective: Objective
    budget: int | None


def tune_and_show(arguments: RunArguments, search: Search, *, json: bool) -> None:
    """See all runs through, then show how they compare, and what the best one's network is worth on the test split.

    Raises:
        PipelineError: finished runs are kept, and the same command goes on.
    """
    base, board = typed_settings(arguments)
    base = with_every_option(base)
    if len(base.conditions) > 1:
        raise ConfigError(
            f"a tuning compares runs by one network each, and {len(base.conditions)} conditions make as many; name one "
            f"of them: conditions: [{base.conditions[0]}]"
        )
    searched = parse_all(search.texts, base.strategy)
    method, budget = method_of(search.method, searched, search.budget, base.seed)
    for one in searched:  # what does not fit is reported before the first run
        for value in one.points():
            changed(base, {one.path: value})
    require_place(arguments.runs)
    with err.status("Load torch"):
        from pipeline.tuning.runs import TunedRuns  # takes seconds: what was mistyped is reported before

    paths = tuple(one.path for one in searched)
    runs = TunedRuns(base=base, paths=paths, board=board, runs=arguments.runs, inventory=arguments.inventory,
                     starting=ended_at_once)  # fmt: skip
    err.print(f"[bold]{runs.name}[/]: {_planned(search, searched, budget)}", markup=True)
    lines = RunLines(budget)
    try:
        with stop_requested() as stopping:
            run = _shown(runs, lines, stopping)
            outcomes = ranked(tune(method, run, search.objective, budget), search.objective)
            figures = _judged(runs, outcomes[0], stopping)
    except PipelineError:
        err.print("finished runs are kept; to resume, type the same command again")
        raise
    finally:
        lines.stop()
    _show(arguments, search, runs, outcomes, figures, json)


def _planned(search: Search, searched: tuple[Searched, ...], budget: int) -> str:
    paths = ", ".join(one.path for one in searched)
    if search.method == "optuna":
        return f"{paths}: Optuna suggests up to {budget} runs"
    sizes = " × ".join(str(len(one.points())) for one in searched)
    return f"{paths}: a grid of {sizes}{f' = {budget}' if len(searched) > 1 else ''} runs"


def _shown(runs: TunedRuns, lines: RunLines, stopping: Callable[[], bool]) -> Callable[[Settings], Outcome]:
    """Return what runs settings, and says so."""

    def run(settings: Settings) -> Outcome:
        lines.begin(_in_words(settings))
        known = runs.known(settings)
        outcome = known or runs.run(settings, lines.listen, stopping)
        lines.end(_described(outcome), None if known else outcome.seconds)
        return outcome

    return run


def _judged(runs: TunedRuns, best: Outcome, stopping: Callable[[], bool]) -> Figures | None:
    """Return the best run's figures, the test split read this once; None where no run found anything."""
    if not best.feasible:
        return None
    with err.status("Read the test split for the best run, once"):
        return runs.judge(best.run, lambda _: None, stopping)


# ---------------------------------------------------------------- the end


def _show(
    arguments: RunArguments,
    search: Search,
    runs: TunedRuns,
    outcomes: list[Outcome],
    figures: Figures | None,
    json: bool,
) -> None:
    best = outcomes[0]
    if json:
        print_json(_as_json(runs.name, search, outcomes, figures))
    else:
        out.print(_table(outcomes))
    if figures is None:
        raise TargetError(f"none of {len(outcomes)} runs has a network to choose; of the first: {best.failure}")
    with Store.open(arguments.runs, best.run, write=True) as store:
        path = store.path / BEST
        _write(with_every_option(changed(runs.base, best.settings)), path)
    if not json:
        place = runs_option(arguments.runs)
        device = "".join(f" --device {name}" for name in arguments.devices)
        out.print()
        out.print(f"best    {best.run}: {figures.test_accuracy:.1%} on the test split, which had no part in the choice")
        out.print(f"next    [bold]pipeline pull {best.run} --output my-model{place}[/]", markup=True)
        out.print(
            f"or      [bold]pipeline run --config {shlex.quote(os.path.relpath(path))}{device}{place}[/]", markup=True
        )
        out.print("        a new run with these settings, which trains on the validation split, too", style="dim")


def _table(outcomes: list[Outcome]) -> Table:
    ratios = [name for name in ("latency", "energy", "size") if any(getattr(one, name) is not None for one in outcomes)]
    table = Table("settings", "validation", *ratios, "feasible", box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    for one in outcomes:
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
        figures = (getattr(one, name) for name in ratios)
        cells = (_in_words(one.settings), accuracy, *("" if f is None else f"{f:.3f}×" for f in figures),
                 "yes" if one.feasible else "no", one.run)  # fmt: skip
        table.add_row(*map(Text, cells))
    return table


def _as_json(name: str, search: Search, outcomes: list[Outcome], figures: Figures | None) -> dict[str, Any]:
    return {
        "tuning": name, "method": search.method, "objective": search.objective,
        "runs": [{**asdict(one), "feasible": one.feasible} for one in outcomes],
        "best": None if figures is None else outcomes[0].run,
        "test_accuracy": None if figures is None else figures.test_accuracy,
    }  # fmt: skip


def _write(best: RunConfig, path: Path) -> None:
    try:
        path.write_text(yaml.safe_dump(best.model_dump(mode="json", by_alias=True), sort_keys=False), "utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _in_words(settings: Settings) -> str:
    return " ".join(f"{path}={value:g}" for path, value in settings.items())


def _described(outcome: Outcome) -> str:
    if outcome.accuracy is None:
        return f"no network: {outcome.failure}"
    latency = "" if outcome.latency is None else f", {outcome.latency:.3f}× the latency"
    return f"{outcome.accuracy:.1%} on the validation split{latency}"
