"""Comparison of groups of runs: figures, differences, regressions, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.comparison.grouping import Grouped, grouped, shared_settings
from pipeline.comparison.metrics import LINES, METRICS
from pipeline.comparison.regressions import Regression, regression
from pipeline.comparison.run_figures import DEVICE_SETTINGS, RIVAL, Entry, Point
from pipeline.comparison.significance import (
    Anova,
    Difference,
    Summary,
    adjusted,
    anova,
    differences,
    never_varying,
    summary,
)
from pipeline.errors import UserError
from pipeline.records import Interval
from pipeline.store.pruning_frequency import PruningFrequency
from pipeline.store.task import ACCURACY

FEWEST_SEEDS = 3
"""With fewer, a test finds next to nothing: Student's t has one degree of freedom."""
ENOUGH_SEEDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's part."""

    run: str
    seed: int
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """Of single figures: by the test images (Wilson), or by the measurement's own blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that differ in nothing but the seed."""

    name: str
    differs: Mapping[str, str]
    runs: tuple[Run, ...]
    metrics: Mapping[str, Summary]
    """Over the seeds; only those that every run of the group has."""
    lines: Mapping[str, Regression]
    """On pruning intensity: a line a run, through the networks that its search measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that ``pipeline compare`` prints."""

    groups: tuple[Group, ...]
    shared: Mapping[str, str]
    """Settings in which all runs agree."""
    differences: Mapping[str, tuple[Difference, ...]]
    """By metric, of every two groups of two seeds or more. Holm's p are adjusted over the pairs of all metrics whose
    differences are shown; those of the others are no part of the family and have none."""
    anova: Mapping[str, Anova]
    """By metric, where there are three groups or more that vary."""
    never_vary: Mapping[str, tuple[str, ...]]
    """By metric, the groups that ANOVA and Games-Howell leave out because all of their seeds came to one figure."""
    left_out: Mapping[str, str]
    """Run → why it is not compared."""
    warnings: tuple[str, ...]
    frequencies: Mapping[str, PruningFrequency] = field(default_factory=dict)
    """Group → how often its searches pruned each layer at each level, where it was asked for."""
    metric: str = ACCURACY
    """What the runs' task calls its score, which stands in the accuracies."""


def comparison(entries: Sequence[Entry], left_out: Mapping[str, str]) -> Comparison:
    """Return the comparison of one entry or more.

    Raises:
        UserError: they are of different data, or judged by different metrics.
    """
    _require_one_metric(entries)
    found, repeated = grouped(entries)
    samples = {metric: _samples(found, metric) for metric in METRICS}
    tested = {metric: _testable(found, metric, of) for metric, of in samples.items()}
    overall = {metric: anova(parts[0]) for metric, parts in tested.items() if len(parts) == 1}
    constant = {metric: tuple(n for of in parts for n in never_varying(of)) for metric, parts in tested.items()}
    return Comparison(
        groups=tuple(_group(group, samples) for group in found),
        shared=shared_settings(entries),
        differences=_pairs(tested),
        anova={metric: one for metric, one in overall.items() if one is not None},
        never_vary={metric: names for metric, names in constant.items() if names},
        left_out={**left_out, **repeated},
        warnings=tuple(warnings(found)),
        metric=entries[0].metric,
    )


def _require_one_metric(entries: Sequence[Entry]) -> None:
    first = entries[0]
    other = next((entry for entry in entries if entry.metric != first.metric), None)
    if other is not None:
        raise UserError(
            f"runs {first.run} and {other.run} cannot be compared: one is judged by its {first.metric}, the other by "
            f"its {other.metric}; compare runs of one task"
        )


def warnings(groups: Sequence[Grouped]) -> list[str]:
    """Return what a reader has to know before the figures are believed."""
    return [*_few_seeds(groups), *_devices(groups), *_sensors(groups), *_programs(groups), *_better_rivals(groups)]


def _better_rivals(groups: Sequence[Grouped]) -> Iterator[str]:
    """Yield which rivals are surely faster than a run's network and score no less: that run was for nothing."""
    entries = [entry for group in groups for entry in group.entries]
    for rival in entries:
        if rival.baseline is None or not rival.baseline.startswith(RIVAL):
            continue
        own = next((e for e in entries if e.run == rival.run and e.baseline is None), None)
        his, ours = (one.intervals.get("latency_ratio") if one else None for one in (rival, own))
        if own is None or his is None or ours is None or his.high >= ours.low:
            continue
        if rival.figures.get("test_accuracy", 0.0) >= own.figures.get("test_accuracy", 1.0):
            yield f"{rival.baseline} is faster than the network of {own.run}, and its {own.metric} no less: take it"


def _group(group: Grouped, samples: Mapping[str, Mapping[str, Sequence[float]]]) -> Group:
    runs = (Run(run=e.run, seed=e.seed, figures=e.figures, intervals=e.intervals) for e in group.entries)
    known = {metric: summary(of[group.name]) for metric, of in samples.items() if group.name in of}
    lines = lines_of([entry.points for entry in group.entries])
    return Group(name=group.name, differs=group.differs, runs=tuple(runs), metrics=known, lines=lines)


def lines_of(runs: Sequence[Sequence[Point]]) -> dict[str, Regression]:
    """Return the lines of accuracy, latency and power on intensity, where a run has enough points with both."""
    lines = {name: regression([_both(points, name) for points in runs]) for name in LINES}
    return {name: line for name, line in lines.items() if line is not None}


def _both(points: Sequence[Point], name: str) -> list[tuple[float, float]]:
    """Return intensity and figure of the points that have both."""
    return [(p.intensity, y) for p in points if p.intensity is not None and (y := getattr(p, name)) is not None]


def _pairs(tested: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> dict[str, tuple[Difference, ...]]:
    """Return the differences by metric; those that are shown are adjusted as one family."""
    found = {metric: tuple(d for of in parts for d in differences(of)) for metric, parts in tested.items()}
    found = {metric: of for metric, of in found.items() if of}
    return found | adjusted({metric: of for metric, of in found.items() if METRICS[metric].shown})


def _samples(groups: Sequence[Grouped], metric: str) -> dict[str, list[float]]:
    """Return a metric's figures, a group's where all of its runs have it."""
    return {
        group.name: [entry.figures[metric] for entry in group.entries]
        for group in groups
        if all(metric in entry.figures for entry in group.entries)
    }


def _testable(
    groups: Sequence[Grouped], metric: str, samples: Mapping[str, list[float]]
) -> list[dict[str, list[float]]]:
    """Return the samples in parts, within which they may be tested against each other: one device's, or all."""
    parts: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for group in groups:
        if group.name in samples:
            device = group.entries[0].device if METRICS[metric].by_device else ()
            parts.setdefault(device, {})[group.name] = samples[group.name]
    return list(parts.values())


def _few_seeds(groups: Sequence[Grouped]) -> list[str]:
    counts = {group.name: len(group.entries) for group in groups}
    found = []
    if single := [name for name, count in counts.items() if count == 1]:
        found.append(
            f"a single seed in {_listed(single)}: how results vary with the seed is unknown, so there are "
            f"no tests; run again with other --seed, {ENOUGH_SEEDS} or more in all"
        )
    if few := [name for name, count in counts.items() if 1 < count < FEWEST_SEEDS]:
        found.append(
            f"two seeds in {_listed(few)}: too few to tell a difference from chance unless it is enormous; "
            f"run {ENOUGH_SEEDS} or more"
        )
    if some := [name for name, count in counts.items() if FEWEST_SEEDS <= count < ENOUGH_SEEDS]:
        found.append(
            f"fewer than {ENOUGH_SEEDS} seeds in {_listed(some)}: only large differences can be told from chance; "
            "what is not significant here may well be there"
        )
    return found


def _devices(groups: Sequence[Grouped]) -> list[str]:
    first = groups[0].entries[0]
    differing = [
        key for key in DEVICE_SETTINGS if any(e.settings.get(key) != first.settings.get(key) for e in _all(groups))
    ]
    if not differing:
        return []
    return [
        f"not all runs were measured on one device (they differ in {', '.join(differing)}): latency, power and "
        "energy are tested within a device, never between devices"
    ]


def _sensors(groups: Sequence[Grouped]) -> list[str]:
    figures = {metric for entry in _all(groups) for metric in entry.figures}
    if {"power_w", "power_estimated_w"} <= figures:
        return ["power is measured in some runs and estimated in others: the two stand apart and are not compared"]
    return []


def _programs(groups: Sequence[Grouped]) -> list[str]:
    states = sorted({entry.program for entry in _all(groups) if entry.program})
    if len(states) < 2:
        return []
    return [f"the runs were made by different states of the program ({', '.join(states)}): it may be that what differs"]


def _all(groups: Sequence[Grouped]) -> list[Entry]:
    return [entry for group in groups for entry in group.entries]


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names)
