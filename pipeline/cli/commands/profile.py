"""`pipeline profile`: any model file, as a device runs it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from pipeline.records import Interval, Measurement, Power


def table(model: Path, device: str, measurement: Measurement) -> Table:
    """Return the figures as a table, each with its uncertainty where there is one."""
    rows = Table(
        title=f"{model.name} on {device}", title_justify="left", box=None, show_header=False, title_style="bold"
    )
    rows.add_column(style="dim")
    m = measurement
    rows.add_row("latency p50", f"{_with_interval(m.p50_ms)} ms")
    rows.add_row("p90, p99, mean", f"{m.p90_ms:.3f}, {m.p99_ms:.3f}, {m.mean_ms:.3f} ms")
    processes = f" in {m.processes} processes" if m.processes > 1 else ""
    threads = f"{m.threads} thread{'s' * (m.threads > 1)}"
    rows.add_row("inferences", f"{m.inferences:,}{processes} in {m.seconds:.1f} s, {m.runtime}, {threads}")
    if m.power is None:
        rows.add_row("power", "not measured")
        rows.add_row("energy", "not measured")
    else:
        rows.add_row(f"{m.power.scope} power", f"{_with_interval(m.power.mean_w)} W ({_source(m.power)})")
        rows.add_row("energy an inference", f"{_with_interval(m.power.energy_total_mj)} mJ")
        if m.power.energy_dynamic_mj:
            rows.add_row("  above idle", f"{_with_interval(m.power.energy_dynamic_mj)} mJ")
    rows.add_row("peak memory", _or_unknown(m.peak_memory_mb, "MB"))
    rows.add_row("load time", _or_unknown(m.load_ms, "ms"))
    rows.add_row("temperature", _or_unknown(m.temperature_c, "°C"))
    rows.add_row("doubts", ", ".join(m.flags) or "none")
    if m.conditions.get("replayed"):
        rows.add_row("replayed", "from a recording; no board was measured")
    return rows


def _source(power: Power) -> str:
    return f"{power.source}, estimated" if power.estimated else power.source


def _with_interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _or_unknown(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.1f} {unit}"
