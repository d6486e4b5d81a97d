"""The report's charts as Plotly figures (https://plotly.com/javascript/reference/); colours are names of CSS variables.

The page puts the variables' values in, so that one figure serves light and dark. Every text that comes from a run is
escaped, since Plotly reads a subset of HTML in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any

from pipeline.measurement.drift import corrected
from pipeline.pareto import non_dominated
from pipeline.records import LEVELS, Interval, Measurement, PruningPlan, SearchSpace, Trial
from pipeline.report.contents import Contents
from pipeline.report.frequency import correlations
from pipeline.report.learning import settled
from pipeline.report.table import capitalised, ratio, uncertain
from pipeline.store.task import ACCURACY

ACCENT, GOOD, BAD, MUTED, FAINT, TEXT = (
    f"var(--{name})" for name in ("accent", "good", "bad", "muted", "faint", "text")
)
_Trace = dict[str, Any]
_BESIDE = {"xref": "paper", "x": 1.01, "xanchor": "left", "showarrow": False}
"""Where a bar's text stands: right of the plot, so that it can be read on any colour."""
_BAR_AXIS = {"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False, "zeroline": False}
_OF_CHANNELS = "Channels that the chosen network keeps, by group of layers that are cut together, from input to output."
_OF_WEIGHTS = "Weights of the chosen network that are not zero, layer by layer, from input to output."
_HOVERED_GROUPS = 16
"""A plan's further groups are counted, not listed: the hover box has to fit on a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One figure with what is written above it."""

    name: str
    title: str
    note: str
    traces: list[_Trace]
    layout: dict[str, Any]
    height: int = 420


def charts(run: Contents) -> list[Chart]:
    """Return the charts for which the run has figures."""
    drawn = (pareto(run), levels(run), frequency(run), rewards(run), learning(run), seconds(run))
    return [chart for chart in drawn if chart is not None]


def pareto(run: Contents) -> Chart | None:
    """Score over latency, with confidence intervals: trials, their front, base, target and the chosen network."""
    if not run.measured:
        return None
    axis = _LatencyAxis(run)
    met = [t for t in run.measured if t.feasible]
    missed = [t for t in run.measured if not t.feasible]
    traces = [
        _cloud(run, axis, missed, "misses the target", MUTED, "circle-open"),
        _cloud(run, axis, met, "meets the target", ACCENT, "circle"),
        _front(run, axis),
        *_base(run, axis),
        *_chosen(run, axis),
        *_rivals(run, axis),
    ]
    return Chart(
        name="pareto",
        title=f"{capitalised(run.metric)} against latency",
        note=f"Trials as measured on the device, before fine-tuning, {run.metric} on the search split; bars are 95 %"
        " confidence intervals. The star is the chosen network after fine-tuning.",
        traces=[trace for trace in traces if trace["x"]],
        layout={
            "xaxis": {"title": {"text": axis.title}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": escape(run.metric)}, "tickformat": ".0%"},
            **_target_line(axis.target),
        },
        height=480,
    )


def levels(run: Contents) -> Chart | None:
    """What the chosen network keeps of each group's channels, or of each layer's single weights."""
    if run.chosen is None or run.space is None or len(run.chosen.plan.levels) != len(run.space.groups):
        return None
    plan = run.chosen.plan
    names, shares, texts = zip(*(_weights_left if plan.zeros else _channels_left)(run.space, plan), strict=True)
    rows = list(range(len(names)))
    bars = {"type": "bar", "orientation": "h", "y": rows, "hoverinfo": "skip"}
    gone, note = ("zero", _OF_WEIGHTS) if plan.zeros else ("cut", _OF_CHANNELS)
    return Chart(
        name="levels",
        title="What is left of each layer",
        note=note,
        traces=[
            {**bars, "name": "kept", "x": list(shares), "marker": {"color": ACCENT}},
            {**bars, "name": gone, "x": [1 - share for share in shares], "marker": {"color": FAINT}},
        ],
        layout={
            "barmode": "stack",
            "bargap": 0.35,
            "margin": {"r": 110},
            "xaxis": {"tickformat": ".0%", "range": [0, 1], "fixedrange": True},
            "yaxis": {**_BAR_AXIS, "tickmode": "array", "tickvals": rows, "ticktext": [_label(name) for name in names]},
            "annotations": [{**_BESIDE, "y": row, "text": text} for row, text in enumerate(texts)],
        },
        height=130 + 26 * len(names),
    )


def frequency(run: Contents) -> Chart | None:
    """How often the search pruned each group at each level."""
    found = run.frequency
    if found is None:
        return None
    plans = sum(found.layers[0].plans.values())
    counts = [[layer.plans.get(level) for level in LEVELS] for layer in found.layers]
    rows = list(range(len(counts)))
    return Chart(
        name="frequency",
        title="How often each layer was pruned at each level",
        note=f"Share of the {plans} plans that cut several layers, before any was chosen; blank: the layer has no such "
        f"level. {correlations(found)}",
        traces=[
            {
                "type": "heatmap",
                "x": [f"{level} %" for level in LEVELS],
                "y": rows,
                "z": [[None if count is None else count / plans for count in row] for row in counts],
                "text": [["" if count is None else f"{count / plans:.0%}" for count in row] for row in counts],
                "texttemplate": "%{text}",
                "colorscale": [[0, FAINT], [1, ACCENT]],
                "zmin": 0,
                "zmax": 1,
                "showscale": False,
                "hoverinfo": "skip",
                "xgap": 2,
                "ygap": 2,
            }
        ],
        layout={
            "xaxis": {"title": {"text": "level"}, "fixedrange": True, "type": "category"},
            "yaxis": {**_BAR_AXIS, "tickmode": "array", "tickvals": rows,
                      "ticktext": [_label(layer.name) for layer in found.layers]},
        },
        height=130 + 26 * len(counts),
    )  # fmt: skip


def rewards(run: Contents) -> Chart | None:
    """The reward of each trial and the best so far."""
    scored = [t for t in run.trials if t.reward is not None and t.failure is None]
    if not scored and not run.failed:
        return None
    met = [t for t in scored if t.feasible]
    floor = min((t.reward for t in scored if t.reward is not None), default=0.0)
    best = list(accumulate((t.reward for t in met if t.reward is not None), max))
    traces = [
        _points(run, [t for t in scored if not t.feasible], "misses the target", MUTED, "circle-open"),
        _points(run, met, "meets the target", ACCENT, "circle"),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best that meets it",
            "x": [t.index for t in met],
            "y": best,
            "line": {"color": GOOD, "shape": "hv", "width": 2},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "failed",
            "x": [t.index for t in run.failed],
            "y": [floor] * len(run.failed),
            "marker": {"color": BAD, "symbol": "x", "size": 9},
            "text": [f"trial {t.index} failed<br>{escape(_shortened(t.failure or ''))}" for t in run.failed],
            "hoverinfo": "text",
        },
    ]
    return Chart(
        name="rewards",
        title="Reward over trials",
        note="Each trial's reward as the search received it. A cross is a candidate that failed; it has no reward.",
        traces=[trace for trace in traces if trace["x"]],
        layout={"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": "reward"}}},
    )


def learning(run: Contents) -> Chart | None:
    """How the strategy's network learnt: loss and value of the same states after each burst."""
    if len(run.learnt) < 2:
        return None
    updates = [burst.updates for burst in run.learnt]
    line = {"type": "scatter", "mode": "lines+markers", "x": updates}
    return Chart(
        name="learning",
        title="What the network learnt",
        note=f"After each burst of simulated episodes: {settled(run.learnt)}.",
        traces=[
            {**line, "name": "value of the same states", "y": [b.value for b in run.learnt], "line": {"color": ACCENT}},
            {**line, "name": "loss", "y": [b.loss for b in run.learnt], "yaxis": "y2",
             "line": {"color": MUTED, "dash": "dot"}},
        ],
        layout={
            "xaxis": {"title": {"text": "updates"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "value, in units of the reward"}},
            "yaxis2": {"title": {"text": "loss"}, "overlaying": "y", "side": "right", "rangemode": "tozero",
                       "showgrid": False},
        },
    )  # fmt: skip


def seconds(run: Contents) -> Chart | None:
    """Where the time went: the stages of all trials, and what is left of the whole."""
    totals: dict[str, float] = {}
    for trial in run.trials:
        for stage, took in trial.seconds.items():
            totals[stage] = totals.get(stage, 0.0) + took
    rest = (run.seconds or 0.0) - sum(totals.values())
    if rest > 0:
        totals["base model, finalists and the rest"] = rest
    if not totals:
        return None
    stages = sorted(totals.items(), key=lambda item: -item[1])
    return Chart(
        name="seconds",
        title="Where the time went",
        note="Seconds by stage, over all trials. The host builds while the device measures, so stages may overlap.",
        traces=[
            {
                "type": "bar",
                "orientation": "h",
                "y": [escape(stage) for stage, _ in stages],
                "x": [took for _, took in stages],
                "text": [f"{took:.1f} s" for _, took in stages],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": ACCENT},
                "hoverinfo": "skip",
            }
        ],
        layout={
            "bargap": 0.35,
            "showlegend": False,
            "margin": {"t": 8, "r": 64},
            "xaxis": {"title": {"text": "seconds"}, "fixedrange": True},
            "yaxis": _BAR_AXIS,
        },
        height=80 + 30 * len(stages),
    )


# ---------------------------------------------------------------- the parts of the Pareto plot


class _LatencyAxis:
    """Latency over the base model's where every trial was paired with it, else milliseconds, free of drift."""

    def __init__(self, run: Contents) -> None:
        self._paired = all(t.measurement is not None and t.measurement.ratio is not None for t in run.measured)
        self._base = base = None if run.base is None else run.base.measurement
        self.title = "median latency, base model = 1" if self._paired else "median latency in ms"
        share = run.latency_target
        self.target = share if self._paired or share is None or base is None else share * base.p50_ms.value

    def of(self, measurement: Measurement) -> Interval | None:
        return measurement.ratio if self._paired else corrected(measurement, self._base)

    def of_base(self, measurement: Measurement) -> float:
        return 1.0 if self._paired else measurement.p50_ms.value


def _cloud(run: Contents, axis: _LatencyAxis, trials: Sequence[Trial], name: str, color: str, symbol: str) -> _Trace:
    placed = [(t, interval) for t in trials if t.measurement and (interval := axis.of(t.measurement))]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [interval.value for _, interval in placed],
        "y": [t.candidate.accuracy for t, _ in placed if t.candidate],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [interval.high - interval.value for _, interval in placed],
            "arrayminus": [interval.value - interval.low for _, interval in placed],
            "color": color,
            "thickness": 1,
            "width": 0,
        },
        "marker": _marker(color, symbol),
        "text": [_describe(run, t) for t, _ in placed],
        "hoverinfo": "text",
    }


def _front(run: Contents, axis: _LatencyAxis) -> _Trace:
    """The steps along which no trial is both faster and better; energy has no axis here."""
    spots = [
        (interval.value, t.candidate.accuracy)
        for t in run.measured
        if t.index in run.front and t.candidate and t.measurement and (interval := axis.of(t.measurement))
    ]
    steps = sorted(spots[i] for i in non_dominated([(x, -y) for x, y in spots]))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [x for x, _ in steps],
        "y": [y for _, y in steps],
        "line": {"color": GOOD, "shape": "hv", "width": 2},
        "hoverinfo": "skip",
    }


def _base(run: Contents, axis: _LatencyAxis) -> list[_Trace]:
    if run.base is None:
        return []
    latency = uncertain(run.base.measurement.p50_ms, "ms")
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "base model",
            "x": [axis.of_base(run.base.measurement)],
            "y": [run.base.search_accuracy],
            "marker": {"color": TEXT, "symbol": "diamond", "size": 12},
            "text": [f"<b>base model</b><br>{escape(run.metric)} {run.base.search_accuracy:.2%}<br>{latency}"],
            "hoverinfo": "text",
        }
    ]


def _chosen(run: Contents, axis: _LatencyAxis) -> list[_Trace]:
    """A dotted line from the chosen trial as pruned to the network as fine-tuned."""
    if run.chosen is None:
        return []
    ends = [(axis.of(f.measurement), f) for f in (run.chosen.before, run.chosen.after)]
    spots = [(interval.value, figures.search_accuracy) for interval, figures in ends if interval is not None]
    after = run.chosen.after
    latency, name, metric = _latency(run, after.measurement), escape(run.chosen.id), escape(run.metric)
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "chosen, fine-tuned",
            "x": [x for x, _ in spots],
            "y": [y for _, y in spots],
            "line": {"color": GOOD, "dash": "dot", "width": 1.5},
            "marker": {"color": GOOD, "symbol": ["circle-open", "star"][-len(spots) :], "size": [9, 18][-len(spots) :]},
            "text": [
                f"<b>{name} as pruned</b><br>{metric} {run.chosen.before.search_accuracy:.2%}",
                f"<b>{name} fine-tuned</b><br>{metric} {after.search_accuracy:.2%}<br>{latency}",
            ][-len(spots) :],
            "hoverinfo": "text",
        }
    ]


def _rivals(run: Contents, axis: _LatencyAxis) -> list[_Trace]:
    """The networks that might have been taken instead."""
    spots = [
        (interval.value, rival.figures, escape(rival.name))
        for rival in run.rivals
        if rival.figures is not None and (interval := axis.of(rival.figures.measurement)) is not None
    ]
    if not spots:
        return []
    metric = escape(run.metric)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "rivals",
            "x": [x for x, _, _ in spots],
            "y": [figures.search_accuracy for _, figures, _ in spots],
            "marker": {"color": BAD, "symbol": "square", "size": 11},
            "text": [
                f"<b>rival {name}</b><br>{metric} {figures.search_accuracy:.2%}<br>{_latency(run, figures.measurement)}"
                for _, figures, name in spots
            ],
            "hoverinfo": "text",
        }
    ]


def _target_line(target: float | None) -> dict[str, Any]:
    if target is None:
        return {}
    line = {"color": BAD, "dash": "dash", "width": 1.5}
    label = {"text": "target", "font": {"color": BAD}, "xanchor": "left", "yanchor": "top", "showarrow": False}
    return {
        "shapes": [{"type": "line", "x0": target, "x1": target, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
        "annotations": [{**label, "x": target, "yref": "paper", "y": 1}],
    }


# ---------------------------------------------------------------- words


def _points(run: Contents, trials: Sequence[Trial], name: str, color: str, symbol: str) -> _Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [t.index for t in trials],
        "y": [t.reward for t in trials],
        "marker": _marker(color, symbol),
        "text": [_describe(run, t) for t in trials],
        "hoverinfo": "text",
    }


def _marker(color: str, symbol: str) -> _Trace:
    """An open symbol is drawn by its line; a filled one needs none."""
    return {"color": color, "symbol": symbol, "size": 8, "line": {"width": 1.5 if symbol.endswith("open") else 0}}


def _describe(run: Contents, trial: Trial) -> str:
    """Return a trial's hover text: its figures and its plan."""
    lines = [f"<b>trial {trial.index}</b>"]
    if trial.candidate is not None:
        lines.append(f"{escape(run.metric)} {trial.candidate.accuracy:.2%}")
    if trial.measurement is not None:
        lines.append(_latency(run, trial.measurement))
        lines += [f"doubt: {escape(flag)}" for flag in trial.measurement.flags]
    if trial.reward is not None:
        named = {name: run.metric if name == ACCURACY else name for name in trial.terms}
        terms = ", ".join(f"{escape(named[name])} {value:+.3f}" for name, value in trial.terms.items())
        lines.append(f"reward {trial.reward:.3f}" + (f" ({terms})" if terms else ""))
    return "<br>".join([*lines, *_plan(run, trial)])


def _latency(run: Contents, measurement: Measurement) -> str:
    text = uncertain(corrected(measurement, run.base.measurement if run.base else None), "ms")
    return text if measurement.ratio is None else f"{text}, {ratio(measurement.ratio)}"


def _plan(run: Contents, trial: Trial) -> list[str]:
    """Return the groups that are cut, one a line; of a plan of another round, whose groups differ, the widths."""
    if run.space is None or len(trial.plan.levels) != len(run.space.groups):
        return [f"channels {escape(_shortened(trial.key))}"]
    if trial.plan.zeros:
        sparsity = trial.candidate.sparsity if trial.candidate else None
        return [] if sparsity is None else [f"{sparsity:.1%} of the weights zero"]
    cut = [
        f"{escape(group.name)}: {level} %"
        for group, level in zip(run.space.groups, trial.plan.levels, strict=True)
        if level
    ]
    more = len(cut) - _HOVERED_GROUPS
    return [f"{escape(trial.plan.criterion)}:", *cut[:_HOVERED_GROUPS], *([f"and {more} more"] if more > 0 else [])]


def _channels_left(space: SearchSpace, plan: PruningPlan) -> list[tuple[str, float, str]]:
    """Return for each group its name, the share of its channels that stay, and both counts."""
    return [
        (group.name, kept / group.channels, f"{kept} of {group.channels}" if kept else "removed")
        for group, kept in zip(space.groups, space.kept(plan.levels), strict=True)
    ]


def _weights_left(space: SearchSpace, plan: PruningPlan) -> list[tuple[str, float, str]]:
    """Return for each weight tensor its layer, the share of it that is not zero, and both counts."""
    return [
        (name.removesuffix(".weight"), 1 - share, f"{count - round(share * count):,} of {count:,}")
        for (name, count), share in zip(space.weights.items(), plan.zeros, strict=True)
    ]


def _label(name: str) -> str:
    """Return a layer's name for an axis; the middle of a long one is left out."""
    return escape(name if len(name) <= 40 else f"{name[:18]}…{name[-20:]}")


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:119]}…"
