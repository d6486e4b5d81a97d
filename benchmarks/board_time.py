"""How much board time do simulated episodes save? Measurements until the Pareto front is nearly what it will be.

    python benchmarks/board_time.py --data cifar10:DIR --model resnet20 --weights FILE --trials 120 --seeds 5

The DQN learns from episodes that are played against its models (`imagined`) or from measured candidates alone
(`direct`), each with the same number of trials. After each trial stands the hypervolume of all candidates so far, as
`pipeline compare` reads it: on the search split, by which they were picked, so it is too large in both modes. Counted
are the measurements until it reaches the share of its own final value, of that in mode `direct` with the same seed, and
of the best of all runs of that seed; and the seconds that the device was busy with the last. As in a run, networks of
one structure are measured once, and those of single cuts before the search: both modes plan with the same ones. Latency
as for equal_budget.py, with which it shares what was measured once.
"""

from __future__ import annotations

import argparse
import typing
from collections.abc import Sequence
from pathlib import Path

from _common.results import Results, Row, mean, table
from _common.testbed import Testbed, add_arguments, config_of, opened

from pipeline.comparison.hypervolume import of_networks
from pipeline.config import RunConfig
from pipeline.evaluation.cut_profiling import single_cuts
from pipeline.export.fingerprint import structure
from pipeline.pruning.surgery.prune import prune
from pipeline.records import Trial

IMAGINED = "imagined"


def main() -> None:
    args = _arguments()
    names = ("data", "model", "weights", "criterion", "latency", "lookahead", "trials", "target")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    with opened(config_of(args), args.cache, args.latency, args.inventory) as bed:
        for seed in range(args.seeds):
            for mode in args.modes:
                if not results.find(mode=mode, seed=seed):
                    row = results.append(mode=mode, seed=seed, **_run(bed, mode, seed, args))
                    print(f"  {mode}, seed {seed}: hypervolume {row['hypervolumes'][-1]:.4f}", flush=True)
        _print(bed, results, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--modes", nargs="+", default=_modes(), help="all that this version has")
    parser.add_argument("--strategy", default="dqn")
    parser.add_argument("--target", type=float, default=0.5, help="share of the base's latency")
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--share", type=float, default=0.95, help="of the final hypervolume")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--latency", choices=("measured", "predicted"), default="measured")
    parser.add_argument("--lookahead", type=int, default=1, help="candidates begun before the last is through")
    parser.add_argument("--out", type=Path, default=Path("board_time.jsonl"))
    return parser.parse_args()


def _modes() -> list[str]:
    """Return the search's modes as the config knows them; a version without the setting only simulates."""
    known = RunConfig.model_fields.get("mode")
    return [str(mode) for mode in typing.get_args(known.annotation)] if known else [IMAGINED]


def _run(bed: Testbed, mode: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    """Return the hypervolume, measurements and busy seconds after each trial of one search."""
    settings: dict[str, object] = {"mode": mode} if "mode" in RunConfig.model_fields else {}
    if not settings and mode != IMAGINED:
        raise SystemExit(f"this version's run.yaml has no `mode`, so nothing can be searched in mode {mode!r}")
    RunConfig.model_validate(settings)
    trials = bed.search(
        args.strategy, trials=args.trials, seed=seed, limits={"latency": args.target}, lookahead=args.lookahead,
        **settings,
    )  # fmt: skip
    classes = len(bed.context.data.classes)
    points: list[tuple[float, float]] = []
    before = {_structure(bed, levels) for levels in single_cuts(bed.builder.space).values()}
    seen = set(before)
    volumes, counts, busy_s = [], [], []
    seconds = 0.0
    for trial in trials:
        if trial.measurement and (structure := _structure(bed, trial.plan.levels)) not in seen:
            seconds += trial.measurement.seconds
            seen.add(structure)
        points += _point(trial)
        volumes.append(of_networks(points, classes))
        counts.append(len(seen) - len(before))
        busy_s.append(seconds)
    return {"hypervolumes": volumes, "measurements": counts, "busy_s": busy_s}


def _structure(bed: Testbed, levels: tuple[int, ...]) -> str:
    builder = bed.builder
    return structure(prune(builder.base, builder.space, levels, builder.ranking, builder.example))


def _point(trial: Trial) -> list[tuple[float, float]]:
    if trial.failure or trial.candidate is None or trial.measurement is None or trial.measurement.ratio is None:
        return []
    return [(trial.measurement.ratio.value, trial.candidate.accuracy)]


def _print(bed: Testbed, results: Results, args: argparse.Namespace) -> None:
    data, facts = bed.context.data, bed.context.agent.facts
    found = {mode: [results.find(mode=mode, seed=seed) for seed in range(args.seeds)] for mode in args.modes}
    runs = {mode: [row for row in rows if row is not None] for mode, rows in found.items()}
    best = {
        seed: max(row["hypervolumes"][-1] for rows in runs.values() for row in rows if row["seed"] == seed)
        for seed in range(args.seeds)
    }
    truth = "measured" if args.latency == "measured" else "predicted by the cost model, nothing measured"
    print(f"\n{args.model} on {data.name}, {facts.cpu}, latency {truth}; target latency={args.target:g}x")
    cuts = len(single_cuts(bed.builder.space))
    print(
        f"{args.strategy}, {args.trials} trials, {args.seeds} seeds; before them {cuts} single cuts, the same in both\n"
    )
    percent = f"{args.share:.0%}"
    whose = ("its own", "direct's", "the best")
    header = ["mode", "hypervolume, search split", *(f"to {percent} of {one}" for one in whose), "busy s", "never"]
    direct = {row["seed"]: row["hypervolumes"][-1] for row in runs.get("direct", [])}
    print(table(header, [_line(mode, runs[mode], direct, best, args.share) for mode in args.modes]))
    print("±: standard error over the seeds of the search alone: all share images, and what was measured once")
    if "direct" not in args.modes:
        print(
            "\nno mode `direct` was run" + ("" if "direct" in _modes() else ": this version's run.yaml has no `mode`")
        )


def _line(mode: str, rows: Sequence[Row], direct: dict[int, float], best: dict[int, float], share: float) -> list[str]:
    """Return a mode's line; runs that never reach the share of the best are counted, and not in its mean."""
    own = {row["seed"]: row["hypervolumes"][-1] for row in rows}
    reached = _reached(rows, best, share)
    return [
        mode,
        mean(list(own.values()), digits=4),
        *(mean([row["measurements"][at] for row, at in _reached(rows, to, share)], digits=1) for to in (own, direct)),
        mean([row["measurements"][at] for row, at in reached], digits=1),
        mean([row["busy_s"][at] for row, at in reached], digits=0),
        f"{len(rows) - len(reached)} of {len(rows)}",
    ]


def _reached(rows: Sequence[Row], volumes: dict[int, float], share: float) -> list[tuple[Row, int]]:
    """Return the runs that reach the share of their seed's hypervolume, and the trial after which they do."""
    found = [(row, _first(row, share * volumes[row["seed"]])) for row in rows if row["seed"] in volumes]
    return [(row, at) for row, at in found if at is not None]


def _first(row: Row, volume: float) -> int | None:
    """Return the first trial after which the hypervolume was so large, None where it never was."""
    return next((at for at, found in enumerate(row["hypervolumes"]) if found >= volume), None)


if __name__ == "__main__":
    main()
