"""adaptation.html: cost against accuracy with every opponent, and what the controller decides over a stream."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from pipeline.records import Interval
from pipeline.records.adaptation import Adaptation, JudgedStreams, Method, Variant
from pipeline.report.charts import ACCENT, BAD, FAINT, GOOD, MUTED, TEXT, Chart
from pipeline.report.html import page, write_page

NOTE = (
    "Cost is of a frame, in inferences of the plain variant. At equal accuracy it is read on the upper hull of a "
    "method's settings, so mixes over time count for every method; settings come from other images and other streams. "
    "± is the standard error over streams, brackets are a 95 % bootstrap over streams. Oracles know what no controller "
    "can: the condition and the slow-down of each frame, or its right answer."
)
_COLOURS = {"best time-mix": MUTED, "condition oracle": FAINT, "condition oracle, answers kept": FAINT}
_HIDDEN = ("frame oracle",)
"""Left to the table: it is so cheap that nothing else could be seen beside it."""


def write_adaptation(found: Adaptation, path: Path) -> None:
    """Write the page of an adaptation.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    write_page(render(found), path)


def render(found: Adaptation) -> str:
    """Return the page."""
    return page(
        title=f"{found.run}: adaptation", headline=f"Run-time adaptation of {found.run}", facts=_facts(found),
        summary=f"{_variants(found)}{''.join(_table(judged) for judged in found.judged)}"
        f'<p class="note">{escape(NOTE)}</p>',
        drawn=[*(_curves(i, one, found.ships) for i, one in enumerate(found.judged)), _decisions(found)],
        footer=f"run {found.run} · seed {found.seed} · {found.frames:,} frames answered by every variant",
    )  # fmt: skip


def _facts(found: Adaptation) -> dict[str, object]:
    deadline = "none" if found.deadline_ms is None else f"{found.deadline_ms:g} ms a frame"
    return {
        "Device": found.device,
        "Ships": "the rule" if found.ships == "rule" else "the learned policy",
        "Why": found.why,
        "Rule": found.rule,
        "Floor": f"{found.floor:.1%} on the selection streams",
        "Ceiling": "not reached"
        if found.ceiling is None
        else f"{in_brackets(found.ceiling)}, rule over condition oracle",
        "Deadline": deadline,
        "Cost": found.cost_of,
        "A decision takes": f"{found.decision_us:.0f} µs on the host",
    }


def in_brackets(ratio: Interval | None) -> str:
    """Return a ratio with its interval.

    >>> in_brackets(Interval(0.5, 0.4, 0.6)), in_brackets(None)
    ('0.50× [0.40, 0.60]', 'never')
    """
    return "never" if ratio is None else f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def shares(value: float | None, digits: int = 1) -> str:
    """Return a share in percent, nothing where there is none."""
    return "" if value is None else f"{value:.{digits}%}"


def costs(value: float | None) -> str:
    """Return a cost, nothing where there is none."""
    return "" if value is None else f"{value:.3f}"


def _variants(found: Adaptation) -> str:
    head = ("variant", "artifact", "latency", "energy", "cost", "clean", "corrupted", "file")
    rows = [_variant(one) for one in found.variants]
    dropped = "".join(f"<li>{escape(one.name)} is left out: {escape(one.why)}</li>" for one in found.dropped)
    return _html(head, rows) + (f'<ul class="note">{dropped}</ul>' if dropped else "")


def _variant(one: Variant) -> tuple[str, ...]:
    energy = (
        "not measured" if one.energy_mj is None else f"{one.energy_mj.value:.3g} mJ ±{one.energy_mj.half_width:.1g}"
    )
    return (
        one.name, one.artifact, f"{one.latency_ms.value:.3g} ms ±{one.latency_ms.half_width:.1g}", energy,
        f"{one.cost:.2f}×", shares(one.clean), shares(one.corrupted), f"{one.size_bytes / 1e3:,.0f} kB",
    )  # fmt: skip


def _table(judged: JudgedStreams) -> str:
    below = [f"cost at −{100 * one:g}" if one else "cost at 0" for one in judged.below]
    head = (judged.name, "right", "cost", "late", "switches in 1,000", "kept", *below)
    rows = [(one.name, *cells(one)) for one in judged.methods]
    best = (
        f"best fixed: {judged.best_fixed}, {judged.best_accuracy:.1%}; {judged.count} streams of {judged.length} frames"
    )
    time = f"a frame that is answered takes {judged.p50_ms:.3g} ms, at the 99th percentile {judged.p99_ms:.3g} ms"
    return f'{_html(head, rows)}<p class="note">{escape(best)}; {escape(time)}.</p>'


def cells(one: Method) -> tuple[str, ...]:
    """Return a method's figures as text: right, cost, late, switches, kept, and the cost at each accuracy."""
    error = "" if one.accuracy_error is None else f" ±{100 * one.accuracy_error:.1f}"
    switches = "" if one.switches is None else f"{one.switches:.0f}"
    below = tuple("never" if cost is None else costs(cost) for cost in one.cost_below)
    return (
        f"{shares(one.accuracy)}{error}",
        costs(one.cost),
        shares(one.late, 2),
        switches,
        shares(one.kept, 0),
        *below,
    )


def _html(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'


def _curves(number: int, judged: JudgedStreams, ships: str) -> Chart:
    return Chart(
        name=f"curves{number}",
        title=f"Cost against accuracy: {judged.name}",
        note=f"{judged.count} held-out streams of {judged.length} frames. Each line is the hull of one method: "
        "mixes of its settings; dots are variants by themselves.",
        traces=[_curve(one, ships) for one in judged.methods if one.name not in _HIDDEN],
        layout={
            "xaxis": {"title": {"text": "cost of a frame, one inference of plain = 1"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "right answers"}, "tickformat": ".0%"},
        },
        height=460,
    )  # fmt: skip


def _curve(one: Method, ships: str) -> dict[str, Any]:
    is_alone = len(one.curve) == 1 and one.accuracy is not None
    width = 3 if one.name == ships else 1.5
    colour = {"color": ACCENT} if one.name == ships else {"color": _COLOURS[one.name]} if one.name in _COLOURS else {}
    return {
        "type": "scatter", "mode": "markers" if is_alone else "lines+markers", "name": escape(one.name),
        "x": [cost for cost, _ in one.curve], "y": [accuracy for _, accuracy in one.curve],
        "marker": {"size": 11 if is_alone else 5, **({"color": TEXT} if is_alone else colour)},
        "line": {"width": width, **colour},
    }  # fmt: skip


def _decisions(found: Adaptation) -> Chart:
    made = found.decisions
    names = [one.name for one in found.variants]
    frames = range(len(made.variants))
    right, wrong = ([i for i in frames if made.right[i] is wanted] for wanted in (True, False))
    lines = [
        {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": FAINT}}
        for at, _ in made.conditions
    ]
    labels = [
        {"x": at, "y": 1.02, "yref": "paper", "text": escape(name), "showarrow": False, "xanchor": "left",
         "textangle": -20, "font": {"size": 11}}
        for at, name in made.conditions
    ]  # fmt: skip
    return Chart(
        name="decisions",
        title="Decisions over a stream",
        note="The variant that answers each frame of one held-out stream with unseen kinds of corruption; kept: the "
        "last answer stands.",
        traces=[
            {"type": "scatter", "mode": "markers", "name": name, "x": some, "y": [made.variants[i] for i in some],
             "marker": {"color": colour, "size": 5}}
            for name, some, colour in (("right", right, GOOD), ("wrong", wrong, BAD))
        ],
        layout={
            "xaxis": {"title": {"text": "frame"}},
            "yaxis": {"tickmode": "array", "tickvals": list(range(-1, len(names))),
                      "ticktext": ["kept", *map(escape, names)]},
            "shapes": lines, "annotations": labels, "margin": {"t": 90, "l": 90},
        },
        height=340,
    )  # fmt: skip
