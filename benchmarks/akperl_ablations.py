"""What is each of AKPERL's parts worth on a real network? One is left out at a time, with equal real evaluations.

    python benchmarks/akperl_ablations.py --data cifar10:DIR --model resnet20 --weights FILE [--seeds 3]

The strategy is ``dqn``. Whole is with all parts: the performance monitor (latency, and power where there is a sensor,
measured and fed back), a weight of the accuracy for each layer, and simulated episodes. A layer's weight is what its
deepest single cut loses of the accuracy over what such cuts lose on average, between 0.5 and 2. Without the monitor
MACs stand in state, reward and target for what the device measures: their share is to be what the target asks of the
latency. Input statistics matter where there are several conditions of the data; a second table has them with and
without, of one search and one policy for all conditions, weights being those of the whole network there.

Each search's net is picked as a run picks its finalist: the highest reward that meets the target when it is measured
longer; without the monitor the highest reward, for nothing else is known. ``fast enough`` is the best net, by the
search split, among all that the search evaluated and that meet the target as measured: it compares at equal latency.
Accuracies are on the test split before fine-tuning, read once a net. Differences are paired by seed; ± is their
standard error.
What was evaluated or measured once is kept on disk and serves all lines and seeds, as with ``equal_budget.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _common.results import Results, Row, mean, table
from _common.testbed import Testbed, add_arguments, config_of, opened

from pipeline.evaluation.candidate_builder import Built
from pipeline.evaluation.cut_profiling import CutProfile, cost_tables, single_cuts
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.records import Measurement, PruningPlan, Trial
from pipeline.run.loop import Measure
from pipeline.run.selection import pick_finalists
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategy import Problem
from pipeline.store.facts import Fact

_UNDER = Fact("test under", float)
_WEIGHT_RANGE = (0.5, 2.0)
_NO_EPISODES = {"first_simulated_episodes": 0, "simulated_episodes": 0}


@dataclass(frozen=True, slots=True)
class Variant:
    """AKPERL with all parts, or without one."""

    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    monitor: bool = True
    by_layer: bool = True


WHOLE = "whole"
VARIANTS = (
    Variant(WHOLE),
    Variant("without the monitor", monitor=False),
    Variant("without weights by layer", by_layer=False),
    Variant("without simulated episodes", _NO_EPISODES),
)
UNDER_CONDITIONS = (
    Variant(WHOLE, by_layer=False),
    Variant("without input statistics", {"ablate": ["input_statistics"]}, by_layer=False),
)


def main() -> None:
    args = _arguments()
    names = ("data", "model", "weights", "target", "trials", "latency")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    config = config_of(args)
    with opened(config, args.cache, args.latency, args.inventory) as bed:
        for seed in range(args.seeds):
            for variant in VARIANTS:
                _kept(results, seed, variant, "clean", lambda v=variant, s=seed: _searched(bed, args, v, s))
        _print_parts(bed, results, args)
    under = config.model_copy(update={"conditions": tuple(args.conditions)})
    with opened(under, args.cache, args.latency, args.inventory) as bed:
        for seed in range(args.seeds):
            for variant in UNDER_CONDITIONS:
                _kept(
                    results, seed, variant, " ".join(args.conditions),
                    lambda v=variant, s=seed: _adapted(bed, args, v, s),
                )  # fmt: skip
        _print_conditions(bed, results, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--target", type=float, default=0.5, help="share of the base's latency")
    parser.add_argument("--trials", type=int, default=24, help="real evaluations of each search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--conditions", nargs="+", default=["clean", "fog:5", "gaussian-noise:3"])
    parser.add_argument("--latency", choices=("measured", "predicted"), default="measured")
    parser.add_argument("--out", type=Path, default=Path("akperl_ablations.jsonl"))
    return parser.parse_args()


def _kept(results: Results, seed: int, variant: Variant, conditions: str, run: Any) -> None:
    """Append what a search comes to, unless the file has it."""
    if results.find(seed=seed, variant=variant.name, conditions=conditions):
        return
    start = time.perf_counter()
    row = results.append(seed=seed, variant=variant.name, conditions=conditions, **run())
    found = "no net meets the target" if row["test"] is None else f"{row['test']:.1%} on the test split"
    print(f"  {conditions}, seed {seed}, {variant.name}: {found} ({time.perf_counter() - start:.0f} s)", flush=True)


# ---------------------------------------------------------------- one search


def _searched(bed: Testbed, args: argparse.Namespace, variant: Variant, seed: int) -> dict[str, object]:
    """Return what a search found: the net that it hands over, and the best of its nets that is fast enough."""
    limits = {"latency": args.target}
    problem = _problem(bed, args, variant, seed)
    measure: Measure = bed.measure if variant.monitor else lambda built: (_as_macs(bed, built), False)
    trials = list(bed.searched("dqn", problem, measure, limits=limits, lookahead=0))  # type: ignore[arg-type]
    ranked = pick_finalists(trials, limits)  # type: ignore[arg-type]
    picked = next((t for t in ranked if not variant.monitor or _longer(bed, t.plan) <= args.target), None)
    fast = _fast_enough(bed, trials, args.target)
    return {
        "levels": None if picked is None else list(picked.plan.levels),
        "test": None if picked is None else bed.test_accuracy(picked.plan, None),
        "share": None if picked is None else _longer(bed, picked.plan),
        "fast_enough": None if fast is None else bed.test_accuracy(fast.plan, None),
        "met": float(np.mean([_measured(bed, trial.plan) <= args.target for trial in trials if trial.candidate])),
    }


def _problem(bed: Testbed, args: argparse.Namespace, variant: Variant, seed: int) -> Problem:
    problem = bed.problem(
        {"latency": args.target}, strategy="dqn", trials=args.trials, seed=seed, strategy_options=dict(variant.options)
    )
    if not variant.monitor:
        problem = replace(problem, costs=_macs_model(bed), temperature_c=None)
    if variant.by_layer:
        problem = replace(problem, weights=replace(problem.weights, alpha=_by_layer(bed)))
    return problem


def _by_layer(bed: Testbed) -> list[float]:
    """Return a weight for each group: what its deepest single cut loses of the accuracy, over their mean, bounded."""
    space = bed.builder.space
    lost = []
    for number, group in enumerate(space.groups):
        levels = tuple(group.levels[-1] if i == number else 0 for i in range(len(space.groups)))
        found = bed.build(PruningPlan(levels=levels)).candidate.accuracy
        lost.append(max(0.0, bed.base.figures.search_accuracy - found))
    relative = np.array(lost) / max(float(np.mean(lost)), 1e-9)
    return [float(weight) for weight in np.clip(relative, *_WEIGHT_RANGE)]


def _macs_model(bed: Testbed) -> Any:
    """Return a cost model that knows the MACs of single cuts, over the base's, and nothing that was measured."""
    space = bed.builder.space
    figures = {cut: _as_macs(bed, bed.build(PruningPlan(levels=levels))) for cut, levels in single_cuts(space).items()}
    return cost_tables(space, CutProfile(figures))


def _as_macs(bed: Testbed, built: Built) -> Measurement:
    return bed.taken_for_true(built.candidate.macs / bed.base.figures.macs)


def _fast_enough(bed: Testbed, trials: Sequence[Trial], target: float) -> Trial | None:
    """Return the best trial by the search split among those that meet the target when they are measured longer."""
    known = [trial for trial in trials if trial.candidate is not None and _measured(bed, trial.plan) <= target]
    known.sort(key=lambda trial: -trial.candidate.accuracy if trial.candidate else 0.0)
    return next((trial for trial in known if _longer(bed, trial.plan) <= target), None)


def _measured(bed: Testbed, plan: PruningPlan) -> float:
    """Return a plan's latency over the base's as a search measures it."""
    found = bed.measure(bed.build(plan))[0].ratio
    assert found is not None
    return found.value


def _longer(bed: Testbed, plan: PruningPlan) -> float:
    bed.build(plan)
    return bed.measured_longer(plan).value


# ---------------------------------------------------------------- several conditions


def _adapted(bed: Testbed, args: argparse.Namespace, variant: Variant, seed: int) -> dict[str, object]:
    """Return what one search and one policy found for each condition."""
    limits, problem = {"latency": args.target}, _problem(bed, args, variant, seed)
    strategy = Dqn(problem)
    trials = list(bed.searched(strategy, problem, bed.measure, limits=limits, lookahead=0))  # type: ignore[arg-type]
    best, own, plans = [], [], []
    for name in args.conditions:
        fast = _fast_enough(bed, [trial.under(name) for trial in trials], args.target)
        best.append(None if fast is None else _test_under(bed, fast.plan, name))
        plan = strategy.planned(problem.limits, condition=name)[0]
        plans.append(list(plan.levels))
        own.append(_test_under(bed, plan, name))
    found = [share for share in best if share is not None]
    return {
        "test": float(np.mean(found)) if len(found) == len(best) else None,
        "policy": float(np.mean(own)),
        "different": len({tuple(plan) for plan in plans}),
        "plans": plans,
    }


def _test_under(bed: Testbed, plan: PruningPlan, condition: str) -> float:
    """Return a plan's accuracy on the test split under a condition; read once for each network."""
    store, fact = bed.context.store, _UNDER.of(f"{condition} {bed.builder.space.key(plan.levels)}")
    known = store.get(fact)
    if known is None:
        known = accuracy(bed.builder.network(plan), bed.context.conditions[condition].test)
        store.set(fact, known)
    return known


# ---------------------------------------------------------------- tables


def _print_parts(bed: Testbed, results: Results, args: argparse.Namespace) -> None:
    lines = []
    for variant in VARIANTS:
        rows, whole = (_rows(results, args, name, "clean") for name in (variant.name, WHOLE))
        lines.append([
            variant.name, _points(rows, "test"), _against(rows, whole, "test"),
            mean([row["share"] for row in rows if row["share"] is not None], digits=3, unit="x"),
            _points(rows, "fast_enough"), _against(rows, whole, "fast_enough"),
            mean([row["met"] for row in rows], scale=100, digits=0, unit=" %"),
        ])  # fmt: skip
    searched = f"latency={args.target:g}x, {args.trials} evaluations, {args.seeds} seeds"
    print(f"\n{args.model} on {bed.context.data.name}, {searched}, {bed.context.agent.facts.cpu}")
    print("accuracy on the test split before fine-tuning, %")
    header = ["", "picked", "− whole", "its latency", "fast enough", "− whole", "trials that met it"]
    print(table(header, lines))


def _print_conditions(bed: Testbed, results: Results, args: argparse.Namespace) -> None:
    conditions, lines = " ".join(args.conditions), []
    for variant in UNDER_CONDITIONS:
        rows, whole = (_rows(results, args, name, conditions) for name in (variant.name, WHOLE))
        different = mean([row["different"] for row in rows], digits=1)
        lines.append([
            variant.name, _points(rows, "test"), _against(rows, whole, "test"), _points(rows, "policy"),
            _against(rows, whole, "policy"), different,
        ])  # fmt: skip
    unpruned = f"unpruned: mean {bed.base.figures.search_accuracy:.1%} on the search split"
    print(f"\none search under {', '.join(args.conditions)} ({unpruned}); means over the conditions, each of its plan")
    print(table(["", "best tried", "− whole", "policy's own plan", "− whole", "different plans"], lines))


def _rows(results: Results, args: argparse.Namespace, variant: str, conditions: str) -> list[Row]:
    found = (results.find(seed=seed, variant=variant, conditions=conditions) for seed in range(args.seeds))
    return [row for row in found if row is not None]


def _points(rows: Sequence[Row], what: str) -> str:
    found = [row[what] for row in rows if row[what] is not None]
    missing = len(rows) - len(found)
    return mean(found, scale=100, digits=1) + (f" ({missing} none)" if missing else "")


def _against(rows: Sequence[Row], whole: Sequence[Row], what: str) -> str:
    """Return the difference to the whole in points, paired by seed."""
    by_seed = {row["seed"]: row[what] for row in whole}
    pairs = [(row[what], by_seed.get(row["seed"])) for row in rows]
    found = [own - other for own, other in pairs if own is not None and other is not None]
    return mean(found, scale=100, digits=1) if any(found) else ""


if __name__ == "__main__":
    main()
