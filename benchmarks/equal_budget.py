"""Which strategy finds the best net with the same number of real evaluations? All of them, on one network.

    python benchmarks/equal_budget.py --data cifar10:DIR --model resnet20 --weights FILE [--fine-tune]

An evaluation is what it is in a run: cut, layers behind the cuts fitted to what they answered on 256 images, accuracy
on 1000 images of the search split, latency measured beside the base model. With --reconstruction-samples 0 batch norm
is re-estimated on those images, and no layer is fitted. What was evaluated once is kept on disk and serves every
strategy and seed; networks that a run might train count if they meet the target when they are measured ten times as
long. A strategy knows how many trials it has, so each budget is a search of its own. Told are means over the seeds: of
the best net that meets the target, its accuracy on the search split (by which it was picked, so it is too high) and on
the test split before fine-tuning (read once for each of these nets). Lines are ordered and marked by the test split.
Published weights were trained on the search split's images as well, so the unpruned net does better there than on the
test split. Standard errors are over the seeds of the search alone: all seeds and strategies share the images and what
was measured once; how far these may be off stands beneath the table. With --fine-tune the three best nets of each
strategy are fitted as a run's finalists are, then trained alike, and a second table says whether the ranking holds.

With ``--latency predicted`` the cost model's figures count as the truth: quick, and no statement about a device.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common.results import Results, Row, by_images, mean, table
from _common.testbed import LIKE_PEERS, LIKE_PEERS_IMAGES, Testbed, add_arguments, config_of, opened
from scipy.stats import spearmanr

from pipeline import plugins
from pipeline.records import PruningPlan, Trial
from pipeline.run.selection import pick_finalists
from pipeline.search.strategy_plugin import STRATEGIES

BEST = 3


@dataclass(frozen=True, slots=True)
class Line:
    """What one strategy came to."""

    strategy: str
    found: Mapping[int, Sequence[Row]]
    """Rows of its seeds, by budget."""

    def search(self, budget: int) -> list[float]:
        """Return the best nets' accuracies on the split that they were picked by."""
        return [row["best"][0]["accuracy"] for row in self.found[budget] if row["best"]]

    def test(self, budget: int) -> list[float]:
        """Return their accuracies on the test split."""
        return [row["test"] for row in self.found[budget] if row["best"]]

    def score(self, budget: int) -> float:
        """Return the mean test accuracy in percent, as shown; 0 where a seed found no net: the others were lucky."""
        test = self.test(budget)
        return round(100 * statistics.mean(test), 1) if test and len(test) == len(self.found[budget]) else 0.0

    def cells(self, best: Mapping[int, float]) -> list[str]:
        """Return the line's cells; a test accuracy that is the best of its budget is marked."""
        shown = [self.strategy]
        for budget, rows in self.found.items():
            missing = len(rows) - len(self.search(budget))
            shown.append(_points(self.search(budget)) + (f" ({missing} found none)" if missing else ""))
            shown.append(_points(self.test(budget)) + "*" * (0 < self.score(budget) == best[budget]))
        last = self.found[max(self.found)]
        ask = statistics.mean(row["ask_s"] / row["budget"] for row in last)
        return [*shown, f"{statistics.mean(row['feasible'] for row in last):.0%}", f"{1000 * ask:.0f}"]


def main() -> None:
    args = _arguments()
    names = ("data", "model", "weights", "criterion", "reconstruction_samples", "latency", "lookahead")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    with opened(config_of(args), args.cache, args.latency, args.inventory) as bed:
        for target, budget, seed, strategy in itertools.product(
            args.targets, args.budgets, range(args.seeds), args.strategies
        ):
            if args.again or not results.find(target=target, budget=budget, seed=seed, strategy=strategy):
                row = results.append(
                    target=target, budget=budget, seed=seed, strategy=strategy,
                    **_run(bed, strategy, budget, seed, target, args.lookahead),
                )  # fmt: skip
                print(f"  {target}x, {budget} evaluations, seed {seed}, {strategy}: {_shown(row)}", flush=True)
        _print(bed, results, args)


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
        if latency.value <= target:
            yield {
                "levels": trial.plan.levels, "key": trial.key, "accuracy": accuracy, "latency": latency.value,
                "half_width": latency.half_width,
            }  # fmt: skip


def _shown(row: Row) -> str:
    if not row["best"]:
        return f"no net meets the target ({row['seconds']:.0f} s)"
    return f"{row['best'][0]['accuracy']:.1%} search, {row['test']:.1%} test ({row['seconds']:.0f} s)"


def _print(bed: Testbed, results: Results, args: argparse.Namespace) -> None:
    base, data = bed.base.figures, bed.context.data
    count = "the cost model's figures count as the truth, nothing was measured" if args.latency == "predicted" else (
        "measured beside the base"
    )  # fmt: skip
    print(f"\n{args.model} on {data.name}, unpruned {base.search_accuracy:.1%} on the search split")
    print(f"latency on {bed.context.agent.facts.cpu}: {count}; {args.seeds} seeds; search / test before fine-tuning, %")
    for target in args.targets:
        lines = ordered([
            Line(name, {b: _found(results, args, target, name, b) for b in sorted(args.budgets)})
            for name in args.strategies
        ])  # fmt: skip
        print(f"\ntarget latency={target:g}x")
        print(told_of(lines))
        print(_shared(bed, lines))
        if args.fine_tune:
            _print_tuned(bed, results, args, target)


def ordered(lines: Sequence[Line]) -> list[Line]:
    """Return the lines, the best on the test split at the largest budget first."""
    return sorted(lines, key=lambda line: line.score(max(line.found)), reverse=True)


def told_of(lines: Sequence[Line]) -> str:
    """Return the table of all strategies."""
    budgets = list(lines[0].found)
    best = {budget: max(line.score(budget) for line in lines) for budget in budgets}
    header = ["", *(f"{what} @{budget}" for budget in budgets for what in ("search", "test")), "met", "ask ms"]
    return table(header, [line.cells(best) for line in lines])


def _shared(bed: Testbed, lines: Sequence[Line]) -> str:
    """Return what the table's errors leave out, since all of its lines share it."""
    rows = [row for line in lines for rows in line.found.values() for row in rows if row["best"]]
    if not rows:
        return "no net meets the target"
    images = {"search": len(bed.context.data.search), "test": len(bed.context.data.test)}
    images["search"] = min(images["search"], bed.builder.settings.search_images)
    best = {"search": max(row["best"][0]["accuracy"] for row in rows), "test": max(row["test"] for row in rows)}
    errors = [f"{split} {by_images(best[split], images[split])}" for split in images]
    wide = [net["half_width"] / net["latency"] for row in rows for net in row["best"] if net.get("half_width")]
    if wide:
        errors.append(f"latency, by which nets meet the target, ± {statistics.median(wide) / 1.96:.1%}")
    return (
        "* highest on the test split; search is too high: nets were picked by it\n"
        "±: standard error over the seeds of the search alone; those that all lines share, and no ± shows:\n"
        + "\n".join(f"  {error}" for error in errors)
    )


def _found(results: Results, args: argparse.Namespace, target: float, strategy: str, budget: int) -> list[Row]:
    rows = (
        results.find(target=target, budget=budget, seed=seed, strategy=strategy) for seed in range(args.seeds)
    )  # fmt: skip
    return [row for row in rows if row is not None]


def _print_tuned(bed: Testbed, results: Results, args: argparse.Namespace, target: float) -> None:
    """Fine-tune the three best nets of each strategy alike, and say whether the ranking holds."""
    budget = max(args.budgets)
    nets: dict[str, dict[str, tuple[float, float]]] = {}
    for strategy in args.strategies:
        best = _three_best(_found(results, args, target, strategy, budget))
        found = {net["key"]: (net["accuracy"], _trained(bed, net)) for net in best}
        nets |= {strategy: found} if found else {}
    order = sorted(nets, key=lambda name: statistics.mean(after for _, after in nets[name].values()), reverse=True)
    print(
        f"\n  the {BEST} best nets of each at {budget} evaluations, over all seeds, after {LIKE_PEERS.epochs:g} epochs"
    )
    print(f"  on {LIKE_PEERS_IMAGES} images without a teacher, %; ±: standard error over these nets alone")
    rows = [[name, *(_points(list(column)) for column in zip(*nets[name].values(), strict=True))] for name in order]
    print(table(["", "search before", "test after"], rows))
    print(f"  {holds(nets)}")


def _trained(bed: Testbed, net: Row) -> float:
    return bed.test_accuracy(PruningPlan(levels=tuple(net["levels"])), LIKE_PEERS)


def _points(accuracies: Sequence[float]) -> str:
    return mean(accuracies, scale=100, digits=1)


def _three_best(rows: Sequence[Row]) -> list[Row]:
    nets = {net["key"]: net for row in rows for net in row["best"]}
    return sorted(nets.values(), key=lambda net: net["accuracy"], reverse=True)[:BEST]


def holds(nets: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    """Return how well the order before fine-tuning foretells the order after it.

    A net that several strategies found counts once. Among all nets it is easy to tell good from hopeless; so the better
    half is reported as well.

    Args:
        nets: by strategy and key, accuracies before and after.
    """
    if len(nets) < 3:
        return "too few strategies to say whether the ranking holds"
    means = [tuple(map(statistics.mean, zip(*found.values(), strict=True))) for found in nets.values()]
    once = sorted({key: pair for found in nets.values() for key, pair in found.items()}.values(), reverse=True)
    better = once[: (len(once) + 1) // 2]
    return (
        f"Spearman's rank correlation of before and after: {_spearman(means)} among strategies, {_spearman(once)} "
        f"among {len(once)} different nets, {_spearman(better)} among the better half of them before"
    )


def _spearman(pairs: Sequence[tuple[float, ...]]) -> str:
    """Return the rank correlation; a dash where fewer than three pairs, or equal ones, have none."""
    if len(pairs) < 3 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
        return "–"
    return f"{spearmanr(*zip(*pairs, strict=True)).statistic:.2f}"


if __name__ == "__main__":
    main()
