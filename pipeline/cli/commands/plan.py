"""`pipeline plan`: what a run's policy plans for a target that nobody searched for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS, Inventory, Json, Runs, runs_option
from pipeline.cli.reopened import reopened
from pipeline.store import RunsRoot, Store
from pipeline.targets import parse_target

if TYPE_CHECKING:
    from pipeline.run.evaluated_plan import EvaluatedPlan
    from pipeline.run.replanning import Replanned


def plan(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, the beginning of one, or `latest`.")],
    target: Annotated[
        list[str],
        typer.Option("--target", metavar="TARGET", help="latency=0.4x, in metrics that the run had targets for."),
    ],
    condition: Annotated[
        str | None,
        typer.Option("--condition", metavar="CONDITION", help="Of a run with several conditions of the data: fog:3."),
    ] = None,
    policy: Annotated[
        Literal["own", "federated"],
        typer.Option("--policy", help="Whose: the run's own, or of the federation of sites that it took part in."),
    ] = "own",
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Evaluate and measure the plan once, on the run's device.")
    ] = True,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Plan for another target by what a run has learnt, in seconds; measured once, beside what the search found."""
    targets = [parse_target(text) for text in target]
    start = time.perf_counter()
    with Store.open(runs, run, write=measure) as store:
        err.print("[dim]Load torch[/]", markup=True)
        from pipeline.run.replanning import replan  # torch takes seconds to import

        found = replan(store, targets, condition, policy)
        seconds = time.perf_counter() - start
        evaluated = _evaluated(store, found, inventory) if measure else None
        if json:
            print_json(_as_json(found, evaluated, seconds))
        else:
            _print(store, found, evaluated, seconds, runs)


def _evaluated(store: Store, found: Replanned, inventory: Path | None) -> EvaluatedPlan:
    from pipeline.run.evaluated_plan import evaluate_plan

    with reopened(store, inventory, "plans") as run:
        return evaluate_plan(run.ready, store, found, listen=run.listen, stopping=run.stopping)


def _as_json(found: Replanned, evaluated: EvaluatedPlan | None, seconds: float) -> dict[str, object]:
    from pipeline import serialization

    searched = found.searched
    return {
        "target": {str(metric): limit for metric, limit in found.limits.items()},
        "levels": list(found.plan.levels),
        "groups": [group.name for group in found.space.groups],
        **({"condition": found.condition} if found.condition else {}),
        "policy": found.policy,
        "predicted": {"accuracy": found.accuracy, **{str(metric): cost for metric, cost in found.costs.items()}},
        "measured": None if evaluated is None else {
            "accuracy": evaluated.candidate.accuracy,
            "meets_target": evaluated.meets,
            "measurement": serialization.dump(evaluated.measurement),
        },
        "searched": None if searched is None else {
            "trial": searched.index, "levels": list(searched.plan.levels),
            "accuracy": None if searched.candidate is None else searched.candidate.accuracy,
        },
        "planning_s": round(seconds, 2),
    }  # fmt: skip


def _print(store: Store, found: Replanned, evaluated: EvaluatedPlan | None, seconds: float, runs: RunsRoot) -> None:
    from pipeline.cli.views.run import table_of
    from pipeline.report.table import ratio
    from pipeline.store.task import metric_name

    wanted = " ".join(f"{metric}={limit:.4g}x" for metric, limit in found.limits.items())
    whose = f"policy {found.policy}" if found.policy != "the run's" else "by its own policy"
    seen = f" under {found.condition}" if found.condition else ""
    out.print(f"plan of run {store.id} for {wanted}{seen}, {whose}, in {seconds:.1f} s", markup=False)
    table = table_of("", f"{metric_name(store)}, before fine-tuning", *(f"{metric} of base" for metric in found.limits))
    table.add_row("predicted", f"{found.accuracy:.1%}", *(f"{found.costs[metric]:.3f}×" for metric in found.limits))
    if evaluated is not None:
        shares = [_measured(evaluated, metric) for metric in found.limits]
        table.add_row("measured", f"{evaluated.candidate.accuracy:.1%}", *shares)
    if (trial := found.searched) is not None and trial.candidate is not None:
        measured = trial.measurement
        shares = ["" if metric != "latency" or measured is None or measured.ratio is None else ratio(measured.ratio)
                  for metric in found.limits]  # fmt: skip
        table.add_row(f"the search's best within it, trial {trial.index}", f"{trial.candidate.accuracy:.1%}", *shares)
    out.print(table)
    if found.searched is None:
        out.print("no trial of the search met this target", style="dim")
    if evaluated is not None and not evaluated.meets:
        out.print("as measured it does not surely meet the target; plan for a tighter one", style="yellow")
    kept = found.space.kept(found.plan.levels)
    shown = (f"{group.name} {left}/{group.channels}" for group, left in zip(found.space.groups, kept, strict=True))
    out.print(f"channels kept: {', '.join(shown)}", style="dim", markup=False)
    asked = " ".join(f"--target {metric}={limit:.4g}x" for metric, limit in found.limits.items())
    asked += f" --condition {found.condition}" if found.condition else ""
    begun = f"{store.id}:federated" if found.policy == "the federation's" else store.id
    out.print(f"next    pipeline run --warm-start {begun} {asked}{runs_option(runs)}  # trains and packs", markup=False)


def _measured(evaluated: EvaluatedPlan, metric: str) -> str:
    from pipeline.report.table import ratio

    measured = evaluated.measurement
    found = {"latency": measured.ratio, "power": measured.power_ratio, "energy": measured.energy_ratio}.get(metric)
    return "" if found is None else ratio(found)
