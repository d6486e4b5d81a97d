"""Which strategy finds the best net with the same number of real evaluations? All of them, on one network.

    python benchmarks/equal_budget.py --data cifar10:DIR --model resnet20 --weights FILE [--fine-tune]

An evaluation is what it is in a run: cut, layers behind the cuts fitted to what they answered on 256 images, accuracy
on 1000 images of the search split, latency measured beside the base model. With --reconstruction-places 0 batch norm
is re-estimated on those images, and no layer is fitted. What was evaluated once is kept on disk and serves every
strategy and seed; networks that a run might train count if they meet the target when they are measured ten times as
long. A strategy knows how many trials it has, so each budget is a search of its own. Told are means over the seeds with
their standard error: of the best net that meets the target, its accuracy on the search split (by which it was picked)
and on the test split before fine-tuning (read once for each of these nets). Published weights were trained on the
search split's images as well, so the unpruned net does better there than on the test split. With --fine-tune the three
best nets of each strategy are fitted as a run's finalists are, then trained alike, and a second table says whether the
ranking holds.

With ``--latency predicted`` the cost model's figures count as the truth: quick, and no statement about a device.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results import Results, Row, mean, table
from scipy.stats import spearmanr
from testbed import LIKE_PEERS, LIKE_PEERS_IMAGES, Testbed, add_arguments, config_of, opened

from pipeline import plugins
from pipeline.choosing import pick_finalists
from pipeline.inputs import STRATEGIES
from pipeline.records import PruningPlan, Trial

BEST = 3


def main() -> None:
    told = _arguments()
    names = ("data", "model", "weights", "criterion", "reconstruction_places", "latency", "lookahead")
    results = Results(told.out, {name: str(getattr(told, name)) for name in names})
    with opened(config_of(told), told.cache, told.latency, told.inventory) as bed:
        for target, budget, seed, strategy in itertools.product(
            told.targets, told.budgets, range(told.seeds), told.strategies
        ):
            if told.again or not results.find(target=target, budget=budget, seed=seed, strategy=strategy):
                row = results.append(
                    target=target, budget=budget, seed=seed, strategy=strategy,
                    **_run(bed, strategy, budget, seed, target, told.lookahead),
                )  # fmt: skip
                print(f"  {target}x, {budget} evaluations, seed {seed}, {strategy}: {_shown(row)}", flush=True)
        _print(bed, results, told)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--strategies", nargs="+", default=plugins.names(STRATEGIES), help="all that there are")
    parser.add_argument("--targets", nargs="+", type=float, default=[0.7, 0.5], help="shares of the base's latency")
    parser.add_argument("--budgets", nargs="+", type=int, default=[30, 60, 120], help="real evaluations")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--latency", choices=("measured", "predicted"), default="measured")
    parser.add_argument("--lookahead", type=int, default=1, help="candidates begun before the last is through")
    parser.add_argument("--fine-tune", action="store_true", help="train the three best of each, largest budget")
    parser.add_argument("--again", action="store_true", help="run also what is in the file; the newest counts")
    parser.add_argument("--out", type=Path, default=Path("equal_budget.jsonl"))
    return parser.parse_args()


def _run(bed: Testbed, strategy: str, budget: int, seed: int, target: float, lookahead: int) -> dict[str, object]:
    """Return what one search found: its best nets, how many met the target, what asking took."""
    start = time.perf_counter()
    limits = {"latency": target}
    trials = list(bed.search(strategy, trials=budget, seed=seed, limits=limits, lookahead=lookahead))  # type: ignore[arg-type]
    best = list(itertools.islice(_confirmed(bed, trials, target), BEST))
    return {
        "best": best,
        "test": bed.test_accuracy(PruningPlan(levels=tuple(best[0]["levels"])), None) if best else None,
        "feasible": sum(trial.feasible for trial in trials) / budget,
        "distinct": len({trial.key for trial in trials}),
        "ask_s": sum(trial.seconds["ask"] for trial in trials),
        "seconds": time.perf_counter() - start,
    }


def _confirmed(bed: Testbed, trials: Sequence[Trial], target: float) -> Iterator[dict[str, Any]]:
    """Yield the nets that meet the target when they are measured longer, the most accurate first, none twice.

    Looked at are those that a run would look at, which may have missed the target by less than their interval.
    """
    found = [(t.candidate.accuracy, t) for t in pick_finalists(trials, {"latency": target}) if t.candidate]
    for accuracy, trial in sorted(found, key=lambda one: one[0], reverse=True):
        latency = bed.measured_longer(trial.plan)
        if latency <= target:
            yield {"levels": trial.plan.levels, "key": trial.key, "accuracy": accuracy, "latency": latency}


def _shown(row: Row) -> str:
    if not row["best"]:
        return f"no net meets the target ({row['seconds']:.0f} s)"
    return f"{row['best'][0]['accuracy']:.1%} search, {row['test']:.1%} test ({row['seconds']:.0f} s)"


def _print(bed: Testbed, results: Results, told: argparse.Namespace) -> None:
    base, data = bed.base.figures, bed.context.data
    count = "the cost model's figures count as the truth, nothing was measured" if told.latency == "predicted" else (
        "measured beside the base"
    )  # fmt: skip
    print(f"\n{told.model} on {data.name}, unpruned {base.search_accuracy:.1%} on the search split")
    print(f"latency on {bed.context.agent.facts.cpu}: {count}; {told.seeds} seeds; search / test before fine-tuning, %")
    for target in told.targets:
        lines = [_line(results, told, target, strategy) for strategy in told.strategies]
        lines.sort(key=lambda line: line[0], reverse=True)
        budgets = [f"{what} @{budget}" for budget in told.budgets for what in ("search", "test")]
        print(f"\ntarget latency={target:g}x")
        print(table(["", *budgets, "met", "ask ms"], [line[1] for line in lines]))
        if told.fine_tune:
            _print_tuned(bed, results, told, target)


def _line(results: Results, told: argparse.Namespace, target: float, strategy: str) -> tuple[float, list[str]]:
    """Return a strategy's line, and what lines are ordered by: the mean at the largest budget."""
    cells, order, found = [strategy], 0.0, []
    for budget in told.budgets:
        found = _found(results, told, target, strategy, budget)
        accuracies = [row["best"][0]["accuracy"] for row in found if row["best"]]
        tests = [row["test"] for row in found if row["best"]]
        missing = f" ({len(found) - len(accuracies)} found none)" if len(accuracies) < len(found) else ""
        cells += [mean(accuracies, scale=100, digits=1) + missing, mean(tests, scale=100, digits=1)]
        order = statistics.mean(accuracies) if accuracies else 0.0
    ask = statistics.mean(row["ask_s"] / row["budget"] for row in found)
    return order, [*cells, f"{statistics.mean(row['feasible'] for row in found):.0%}", f"{1000 * ask:.0f}"]


def _found(results: Results, told: argparse.Namespace, target: float, strategy: str, budget: int) -> list[Row]:
    rows = (
        results.find(target=target, budget=budget, seed=seed, strategy=strategy) for seed in range(told.seeds)
    )  # fmt: skip
    return [row for row in rows if row is not None]


def _print_tuned(bed: Testbed, results: Results, told: argparse.Namespace, target: float) -> None:
    """Fine-tune the three best nets of each strategy alike, and say whether the ranking holds."""
    budget = max(told.budgets)
    before: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {}
    for strategy in told.strategies:
        nets = _three_best(_found(results, told, target, strategy, budget))
        if nets:
            before[strategy] = [net["accuracy"] for net in nets]
            plans = [PruningPlan(levels=tuple(net["levels"])) for net in nets]
            after[strategy] = [bed.test_accuracy(plan, LIKE_PEERS) for plan in plans]
    order = sorted(before, key=lambda name: statistics.mean(after[name]), reverse=True)
    print(
        f"\n  the {BEST} best nets of each at {budget} evaluations, over all seeds, after {LIKE_PEERS.epochs:g} epochs"
    )
    print(f"  on {LIKE_PEERS_IMAGES} images without a teacher, %")
    rows = [[n, mean(before[n], scale=100, digits=1), mean(after[n], scale=100, digits=1)] for n in order]
    print(table(["", "search before", "test after"], rows))
    print(f"  {_holds(before, after)}")


def _three_best(rows: Sequence[Row]) -> list[Row]:
    nets = {net["key"]: net for row in rows for net in row["best"]}
    return sorted(nets.values(), key=lambda net: net["accuracy"], reverse=True)[:BEST]


def _holds(before: dict[str, list[float]], after: dict[str, list[float]]) -> str:
    """Return how well the order before fine-tuning foretells the order after it."""
    if len(before) < 3:
        return "too few strategies to say whether the ranking holds"
    strategies = spearmanr(
        [statistics.mean(before[name]) for name in before], [statistics.mean(after[name]) for name in before]
    ).statistic
    nets = spearmanr(
        [value for name in before for value in before[name]], [value for name in before for value in after[name]]
    ).statistic
    return f"Spearman's rank correlation of before and after: {strategies:.2f} among strategies, {nets:.2f} among nets"


if __name__ == "__main__":
    main()
