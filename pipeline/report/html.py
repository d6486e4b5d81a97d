"""report.html: one file that tells the whole run, needs no network and suits light and dark."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from pipeline.errors import OutputError
from pipeline.measurement.validity import INVALIDATING, why_invalid
from pipeline.records import Figures
from pipeline.report import fleet
from pipeline.report.charts import Chart, charts
from pipeline.report.conditions import NOTE as NOTE_ON_CONDITIONS
from pipeline.report.conditions import columns, condition_plans
from pipeline.report.contents import Contents, gather
from pipeline.report.corners import NOTE as CORNERS_NOTE
from pipeline.report.corners import alike, corners
from pipeline.report.cuts import cuts
from pipeline.report.rivals import NOTE as RIVALS_NOTE
from pipeline.report.rivals import rivals
from pipeline.report.table import NOT_MEASURED, NOTE, Row, capitalised, comparison, notes
from pipeline.store import Store


def write_report(store: Store, path: Path) -> None:
    """Write a run's page to ``path``, at whatever stage the run is.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    write_page(render(gather(store)), path)


def write_page(text: str, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"the report {path} cannot be written: {error.strerror or error}") from error


def render(run: Contents) -> str:
    """Return the page."""
    return page(
        title=f"{run.id}: {_what_was_pruned(run)}", headline=_headline(run), facts=_facts(run), summary=_summary(run),
        drawn=charts(run), rest=_fleet(run) + _cuts(run) + _failures(run), footer=_footer(run),
    )  # fmt: skip


def page(
    *, title: str, headline: str, facts: Mapping[str, object], summary: str, drawn: Sequence[Chart], rest: str = "",
    footer: str,
) -> str:  # fmt: skip
    """Return a page of figures.

    Args:
        title: text, as are headline, facts and footer.
        headline: of the page itself.
        facts: what stands below it, by what it is called.
        summary: HTML, as is ``rest``.
        drawn: charts, each with its title and note.
        rest: after the charts.
        footer: where it comes from.
    """
    template = Template(files("pipeline").joinpath("templates/report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        headline=escape(headline),
        facts="".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items()),
        summary=summary,
        charts="".join(map(_section, drawn)),
        failures=rest,
        footer=escape(footer),
        figures=_embedded({c.name: {"data": c.traces, "layout": c.layout} for c in drawn}),
        plotly=get_plotlyjs(),
    )


def _headline(run: Contents) -> str:
    if run.chosen is None:
        return _what_was_pruned(run)
    return f"{_what_was_pruned(run)}, pruned for {run.device.get('name', 'the device')}"


def _what_was_pruned(run: Contents) -> str:
    model = run.config.get("model") or "the default network"
    kind, _, folder = str(run.config.get("data", "unknown data")).partition(":")
    return f"{model} on {Path(folder).name if kind == 'imagefolder' else kind}"


def _facts(run: Contents) -> dict[str, object]:
    board = run.facts.get("board") or run.facts.get("cpu")
    device = run.device.get("name", "unknown")
    return {
        "Device": f"{device} ({board})" if board else device,
        "Target": ", ".join(map(str, run.config.get("target") or ())) or "none",
        **({"Conditions": ", ".join(map(str, named))} if (named := run.config.get("conditions")) else {}),
        **({} if run.config.get("task") in (None, "classification") else {"Task": str(run.config["task"])}),
        "Strategy": run.config.get("strategy", "unknown"),
        **{name.capitalize(): why for name, why in run.decisions.items()},
        "Trials": f"{len(run.trials)}" + (f", {len(run.failed)} failed" if run.failed else ""),
        "Started": _date(run.started),
        "Status": run.status,
        **({"Time of the search": "; ".join(run.usage)} if run.usage else {}),
        **({"Drift": str(run.drift)} if run.drift else {}),
        **{f"{metric} against itself".capitalize(): spread for metric, spread in run.spreads.items()},
        "Calibration of the device": run.calibration or "none",
    }


def _summary(run: Contents) -> str:
    """The tiles and the table; in their place, before there is a chosen network, a sentence that says so."""
    base = run.base_of_chosen
    if base is None or run.chosen is None:
        reason = "No trial has been made yet." if not run.trials else "No network has been chosen yet."
        return f'<p class="calm">{reason} This run is {escape(run.status)}.</p>'
    rows = comparison(base, run.chosen.after, run.metric)
    tables = f"{_table(rows)}{_corners(base, run)}{_rivals(run)}"
    shown = f'<div class="tiles">{_tiles(rows, run.metric)}</div>{tables}{_verified(run)}'
    return f"{_conditions(run)}{shown}"


def _conditions(run: Contents) -> str:
    """The plan for each condition of the data, and of which the figures below are; nothing where there is one alone."""
    found = condition_plans(run.plans, run.bases)
    if not found or run.chosen is None:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns(run.plans))
    body = "".join(f"<tr>{''.join(_cell(text) for text in one.cells)}</tr>" for one in found)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="calm">{escape(NOTE_ON_CONDITIONS)}. Below: the plan for {escape(run.chosen.condition)}.</p>'
    )


def _corners(base: Figures, run: Contents) -> str:
    """Base and pruned network in float32 and another precision; nothing where the run computed in float32."""
    found = [] if run.chosen is None else corners(base, run.precision, run.chosen)
    if not found:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(one.network)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in (one.accuracy, one.latency, one.size))
        + "</tr>"
        for one in found
    )
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in (run.metric, "latency", "model file"))
    head = f"<tr><td></td>{columns}</tr>"
    return (
        f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        f'<p class="calm">{escape(CORNERS_NOTE)}</p>'
    )


def _rivals(run: Contents) -> str:
    """The networks that might have been taken instead; nothing where none was measured."""
    found = [] if run.chosen is None else rivals(run.rivals, run.chosen.after)
    if not found:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(one.network)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in (one.score, one.latency, one.size, one.verdict))
        + "</tr>"
        for one in found
    )
    names = (f"{run.metric}, test split", "latency", "model file", "")
    columns = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in names)
    return (
        f'<div class="wide"><table><thead><tr><td></td>{columns}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="calm">{escape(RIVALS_NOTE)}</p>'
    )


def _tiles(rows: Sequence[Row], metric: str) -> str:
    """The four figures that a reader looks for first."""
    shown = [
        row for row in rows if row.measure.startswith((capitalised(metric), "Latency, median", "Energy", "Model file"))
    ]
    return "".join(
        f"<div><span>{escape(row.measure)}</span><b>{escape(_short_change(row))}</b><small>{escape(row.pruned)}</small></div>"
        for row in shown
    )


def _short_change(row: Row) -> str:
    """The change without its interval, which stands in the table.

    >>> _short_change(Row("Latency", "2 ms", "1 ms", "0.50× [0.49, 0.51]"))
    '0.50×'
    """
    if not row.change:
        return "—"
    return row.change.partition(" [")[0].partition(",")[0]


def _table(rows: Iterable[Row]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(row.measure)}</th>'
        + "".join(_cell(text) for text in (row.base, row.pruned, row.change))
        + "</tr>"
        for row in rows
    )
    head = "<tr><th></th><th>base</th><th>pruned</th><th>change</th></tr>"
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _fleet(run: Contents) -> str:
    """The boards and what they differ by; nothing where there is one."""
    if run.fleet is None:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(row.board)}</th>'
        + "".join(
            f"<td>{escape(text)}</td>" for text in (row.status, row.measurements, row.base, row.effect, row.drift)
        )
        + "</tr>"
        for row in fleet.rows(run.fleet)
    )
    names = ("board", "", "measurements", "base model", "ratios there", "drift")
    head = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in names)
    said = " ".join([*fleet.troubles(run.fleet), *fleet.sentences(run.fleet), fleet.NOTE])
    return (
        f'<section><h2>Boards</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'</div><p class="note">{escape(said)}</p></section>'
    )


def _cuts(run: Contents) -> str:
    """What could be cut, folded away."""
    if run.space is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in (row.channels, row.levels, row.macs, row.remark))
        + "</tr>"
        for row in cuts(run.space)
    )
    head = "<tr><th>group of channels</th><th>channels</th><th>levels, %</th><th>MACs</th><th></th></tr>"
    return (
        "<section><details><summary>What could be cut, and what stays whole</summary>"
        f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div></details></section>'
    )


def _cell(text: str) -> str:
    return f'<td class="absent">{text}</td>' if text == NOT_MEASURED else f"<td>{escape(text)}</td>"


def _verified(run: Contents) -> str:
    chosen = run.chosen
    sentences = [
        "± and brackets are 95 % confidence intervals; × is the pruned network's figure over the base model's.",
        *(notes(chosen.plan) if chosen is not None else [NOTE]),
    ]
    if chosen is not None and chosen.device_accuracy is not None and chosen.host_accuracy is not None:
        there, here = f"{chosen.device_accuracy:.2%}", f"{chosen.host_accuracy:.2%}"
        there = f"{there} right" if run.puts_into_classes else f"{run.metric} {there}"
        sentences.append(
            f"Verified with {chosen.verified_images} images: {there} on the device, {here} on the host{alike(chosen)}."
        )
    if chosen is not None and chosen.agreement is not None:
        sentences.append(f"{chosen.agreement:.1%} of the search split's images are of the class of the float32 parent.")
    return f'<p class="note">{escape(" ".join(sentences))}</p>'


def _section(chart: Chart) -> str:
    return (
        f"<section><h2>{escape(chart.title)}</h2>"
        f'<p class="note">{escape(chart.note)}</p>'
        f'<div class="chart" id="{chart.name}" style="height:{chart.height}px"></div></section>'
    )


def _failures(run: Contents) -> str:
    if not run.failed:
        return ""
    counted = Counter(trial.failure or "" for trial in run.failed).most_common(20)
    items = "".join(f"<li><b>{number}×</b> {escape(reason)}</li>" for reason, number in counted)
    flags = dict.fromkeys(flag for t in run.failed if t.measurement for flag in why_invalid(t.measurement))
    meant = "".join(f'<p class="note">{escape(flag)}: {escape(INVALIDATING[flag])}.</p>' for flag in flags)
    aside = '<p class="note">What is quarantined was measured, but not validly: its figures count for nothing.</p>'
    return f"<section><h2>What failed</h2><ul>{items}</ul>{aside + meant if flags else ''}</section>"


def _footer(run: Contents) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    parts = [f"run {run.id}", "" if run.seed is None else f"seed {run.seed}", versions]
    return " · ".join(part for part in parts if part)


def _embedded(value: object) -> str:
    """Return JSON that may stand in a script element: no ``</script>``, no comment can begin in it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _date(iso: str | None) -> str:
    """Return a time as a reader writes it.

    >>> _date("2026-11-21T04:15:00.123+00:00"), _date(None)
    ('21 November 2026, 04:15 UTC', 'unknown')
    """
    if iso is None:
        return "unknown"
    return f"{datetime.fromisoformat(iso):%-d %B %Y, %H:%M} UTC"
