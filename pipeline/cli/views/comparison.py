"""Terminal view of a comparison: groups, differences, regressions, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipeline.cli.console import out
from pipeline.comparison.compare import Comparison, Group
from pipeline.comparison.grouping import name_of
from pipeline.comparison.metrics import LINES, METRICS, Metric
from pipeline.comparison.regressions import EQUAL, FEWEST_RUNS, Regression
from pipeline.comparison.significance import Difference
from pipeline.records import LEVELS, Interval
from pipeline.report.frequency import correlations
from pipeline.report.table import count, decimals
from pipeline.store.task import ACCURACY

_CAME_OUT = ("test_accuracy", "latency_ratio", "power_w", "energy_mj", "power_estimated_w", "energy_estimated_mj")
_COST = (
    "latency_ms",
    "channels_gone",
    "parameters",
    "macs",
    "size_bytes",
    "search_accuracy",
    "hypervolume",
    "trials",
    "seconds",
)
_NOTE = (
    "mean ± standard error over the seeds [95 % interval of the mean, Student's t]; * a single run: of its test\n"
    "images, or of its measurement; hypervolume: area that the measured networks dominate, latency over the base\n"
    "model's (up to 1) by accuracy (from guessing on); it and the best search accuracy are read on the search split,\n"
    "by which the networks were picked: too high, the more so, the more were tried"
)
_TESTS = "Welch's t (degrees of freedom), two-sided; g: in pooled standard deviations, unbiased; p, Holm: over "
_LINES = (
    "intensity: share of each group's channels that is gone, mean over groups; accuracy before fine-tuning, on the\n"
    "search split; a line a run, since networks of one search are correlated, and no independent sample:\n"
    f"interval and p (from {FEWEST_RUNS} runs on, not adjusted) are Student's t over the runs' slopes"
)


def print_comparison(found: Comparison, columns: Sequence[str] = ()) -> None:
    """Print groups, differences and lines, and what to be wary of.

    Args:
        columns: metrics of one table of groups; empty: two tables with all.
    """
    _print_long_names(found.groups)
    _print_groups(found, columns)
    _print_differences(found)
    _print_lines(found)
    _print_frequency(found)
    for run, why in found.left_out.items():
        out.print(f"left out  {run}: {why}", markup=False, style="yellow")
    for warning in found.warnings:
        out.print(f"warning  {warning}", markup=False, style="yellow")


def _named(note: str, metric: str) -> str:
    """Return a note with the task's name for its score."""
    return note if metric == ACCURACY else note.replace("accuracy (from guessing on)", metric).replace(ACCURACY, metric)


def _print_long_names(groups: Sequence[Group]) -> None:
    """Say what a group's letter stands for, where its name would be too long for a table."""
    for group in groups:
        if group.differs and group.name != (name := name_of(group.differs)):
            out.print(f"{group.name}  {name}", markup=False)


def _print_groups(found: Comparison, columns: Sequence[str]) -> None:
    shared = (found.shared.get(key, "") for key in ("strategy", "model", "data", "device", "target"))
    out.print("the same in all: " + ", ".join(word for word in shared if word), markup=False, style="dim")
    tables = ((columns, _whole_cell),) if columns else ((_CAME_OUT, _whole_cell), (_COST, _brief_cell))
    for metrics, cell in tables:
        known = [m for m in metrics if any(m in group.metrics for group in found.groups)]
        table = _table("group", "seeds", *(METRICS[metric].label_for(found.metric) for metric in known))
        for group in found.groups:
            cells = (cell(group, metric) if metric in group.metrics else "" for metric in known)
            table.add_row(group.name, ", ".join(str(run.seed) for run in group.runs), *cells)
        out.print(table)
        out.print()
    out.print(_named(_NOTE, found.metric), style="dim")
    _print_shared(found)


def _print_shared(found: Comparison) -> None:
    """Say what no spread over seeds shows, since all runs read the same test images."""
    intervals = [run.intervals.get("test_accuracy") for group in found.groups for run in group.runs]
    known = [interval.half_width for interval in intervals if interval is not None]
    if known and any(len(group.runs) > 1 for group in found.groups):
        out.print(
            f"all runs read the same test images: ± {100 * max(known):.1f} points of a test accuracy (95 %, Wilson) "
            "are theirs,\ncommon to all groups and in no figure over seeds",
            style="dim",
        )  # fmt: skip


def _whole_cell(group: Group, metric: str) -> str:
    """Return a group's mean ± its standard error and the 95 % interval; of a single run its own interval."""
    of, kind = group.metrics[metric], METRICS[metric]
    interval = of.interval or group.runs[0].intervals.get(metric)
    if interval is None or interval.half_width == 0:
        return _with_unit(_plain(of.mean, kind, None), kind.unit)
    mean = _with_unit(_plain(of.mean, kind, of.se or interval.half_width), kind.unit)
    spread = "" if of.se is None else f" ± {_plain(of.se, kind, of.se)}"
    return f"{mean}{spread} {_bounds(interval, kind)}" + ("" if of.interval else "*")


def _brief_cell(group: Group, metric: str) -> str:
    """Return a group's mean ± its standard error; large counts in thousands or millions."""
    of, kind = group.metrics[metric], METRICS[metric]
    if of.mean >= 1000 and kind.unit in ("", "B"):
        return f"{count(round(of.mean))}{kind.unit}" + (f" ± {count(round(of.se))}{kind.unit}" if of.se else "")
    mean = _with_unit(_plain(of.mean, kind, of.se), kind.unit)
    return mean + (f" ± {_plain(of.se, kind, of.se)}" if of.se else "")


def _print_frequency(found: Comparison) -> None:
    """Print how often each group's searches pruned each layer at each level."""
    for group in found.groups:
        if (of := found.frequencies.get(group.name)) is None:
            continue
        table = _table(f"layer, in {group.name}", *(f"{level} %" for level in LEVELS), "alone saves", "alone loses")
        plans = max(1, sum(of.layers[0].plans.values()))
        for layer in of.layers:
            shares = ("" if level not in layer.plans else f"{layer.plans[level] / plans:.0%}" for level in LEVELS)
            known = ("" if value is None else f"{value:.1%}" for value in (layer.saving, layer.loss))
            table.add_row(layer.name, *shares, *known)
        out.print()
        out.print(table)
        out.print(f"share of {plans} plans that cut several layers. {correlations(of)}", style="dim", markup=False)


def _print_differences(found: Comparison) -> None:
    shown = {metric: of for metric, of in found.differences.items() if METRICS[metric].shown}
    if not shown:
        return
    many = len(found.groups) > 2
    table = _table("metric", "difference of", "mean [95 %]", "Welch's t", "p", "p, Holm",
                   *(["p, Games-Howell"] if many else []), "Hedges' g [95 %]")  # fmt: skip
    for metric, pairs in shown.items():
        for pair in pairs:
            label = METRICS[metric].label_for(found.metric) if pair is pairs[0] else ""
            table.add_row(label, f"{pair.one} − {pair.other}", *_tests(pair, METRICS[metric], many))
    out.print()
    out.print(table)
    overall = [
        f"{METRICS[m].label_for(found.metric)}: F {a.f:.3g}, p {_p(a.p)}"
        for m, a in found.anova.items()
        if METRICS[m].shown
    ]
    if overall:
        out.print("Welch's ANOVA, all groups that vary   " + "   ".join(overall))
    if many and (never := _never_vary(found)):
        out.print(f"no spread, and so left out of ANOVA and Games-Howell   {never}", markup=False)
    tests = sum(pair.p_holm is not None for pairs in shown.values() for pair in pairs)
    family = f"the {tests} test{'s' * (tests != 1)} of this table"
    post_hoc = "; Games-Howell: over the pairs of one metric" * many
    out.print(f"{_TESTS}{family}{post_hoc}", style="dim")


def _never_vary(found: Comparison) -> str:
    shown = {
        METRICS[metric].label_for(found.metric): names
        for metric, names in found.never_vary.items()
        if METRICS[metric].shown
    }
    return "   ".join(f"{label}: {', '.join(names)}" for label, names in shown.items())


def _tests(pair: Difference, kind: Metric, many: bool) -> list[str]:
    unit = "points" if kind.unit == "%" else kind.unit
    if pair.t is None:
        apart = _plain(pair.difference.value, kind, pair.difference.value)
        return [_with_unit(apart, unit), "no spread", *[""] * (4 if many else 3)]
    g = pair.hedges_g
    return [
        _change(pair.difference, kind, unit),
        f"{_signed(pair.t)} ({pair.degrees:.1f})", _p(pair.p), _p(pair.p_holm),
        *([_p(pair.p_games_howell)] if many else []),
        "" if g is None else f"{_signed(g.value)} [{_signed(g.low)}, {_signed(g.high)}]",
    ]  # fmt: skip


def _print_lines(found: Comparison) -> None:
    if not any(group.lines for group in found.groups):
        return
    table = _table("on pruning intensity", "group", "slope, per 10 % [95 %]", "R²", "p", "runs", "networks")
    for name, kind in LINES.items():
        for group in found.groups:
            if (line := group.lines.get(name)) is not None:
                table.add_row(kind.label_for(found.metric), group.name, *_line(line, kind))
    out.print()
    out.print(table)
    out.print(_named(_LINES, found.metric), style="dim")


def _line(line: Regression, kind: Metric) -> list[str]:
    mean, interval = line.slope.mean / 10, line.slope.interval
    if interval is None or line.why_no_p == EQUAL:
        slope = _with_unit(_plain(mean, kind, mean), kind.unit)
    else:
        slope = _change(interval / 10, kind, kind.unit)
    p = f"none: {line.why_no_p}" if line.why_no_p else _p(line.p)
    return [slope, f"{line.r_squared:.2f}", p, str(line.slope.count), str(line.count)]


def _change(interval: Interval, kind: Metric, unit: str) -> str:
    """Return a change with its interval."""
    return f"{_with_unit(_plain(interval.value, kind, interval.half_width), unit)} {_bounds(interval, kind)}"


def _bounds(interval: Interval, kind: Metric) -> str:
    half = interval.half_width
    return f"[{_plain(interval.low, kind, half)}, {_plain(interval.high, kind, half)}]"


def _with_unit(text: str, unit: str) -> str:
    """Return a figure in its unit.

    >>> _with_unit("0.48", "×"), _with_unit("91.2", "%"), _with_unit("3", "")
    ('0.48×', '91.2 %', '3')
    """
    return f"{text}{unit}" if unit in ("", "×") else f"{text} {unit}"


def _plain(value: float, kind: Metric, doubt: float | None) -> str:
    """Return a figure without its unit, rounded to what its doubt lets one see: two digits of it."""
    digits = decimals(kind.scale * abs(doubt)) + 1 if doubt else 2
    return f"{kind.scale * value:,.{digits}f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _p(p: float | None) -> str:
    """Return a p.

    >>> _p(0.0312), _p(0.00002), _p(None)
    ('0.031', '< 0.001', '')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)
