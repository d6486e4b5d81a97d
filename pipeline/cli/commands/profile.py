"""`pipeline profile`: any model file, as a device runs it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from pipeline import __version__, plugins, regular_file
from pipeline.cli.views.lock_wait import told_when_waiting
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.recording import Recorder, as_recorded, header_of
from pipeline.errors import ModelError, OutputError
from pipeline.evaluation.device_bench import WHOLE, longer, part_of
from pipeline.export.format import FORMATS, require_usable
from pipeline.measurement.combining import combined
from pipeline.records import Device, Interval, Measurement, Power
from pipeline.store.new_run import require_writable


def profiled(model: Path, device: str, inventory: Path | None, record: Path | None = None) -> Measurement:
    """Return the figures of a file on a registered device, measured in several processes; raw samples go to ``record``.

    Raises:
        ModelError: no such file, or none that the device could load.
        DeviceError, MeasureError: the device or its runtime failed.
    """
    registered = as_recorded(load_inventory(inventory, partial=True).device(device))
    data = read_model(model, registered)
    if record is not None and regular_file.exists(record):
        raise OutputError(f"{record} is there already; give --record the name of a new file")
    if record is not None:
        require_writable(record.parent)
    recorder = Recorder()
    with open_agent(registered, on_event=told_when_waiting(), record=recorder.heard if record else None) as agent:
        require_usable(registered.format, data, agent.limits, shown=str(model))
        agent.hold()
        told = agent.settings_for(registered.measure)
        each = part_of(longer(told, WHOLE))
        parts = [agent.measure(data, registered.format, settings=each) for _ in range(told.processes)]
    if record is not None:
        recorder.begin(record, header_of(registered, {"model": model.name}, {"pipeline": __version__}))
        recorder.close()
    return combined(parts, ci_rel=each.ci_rel)


def read_model(model: Path, device: Device) -> bytes:
    """Return a model file's content.

    Raises:
        ModelError: no such file, none that the device accepts, or a damaged one.
    """
    _require_format(model, device)
    try:
        data = regular_file.read_bytes(model, regular_file.MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{model}: {error.strerror}; give the path of a model file") from error
    require_usable(device.format, data, None, shown=str(model))
    return data


def _require_format(model: Path, device: Device) -> None:
    """Refuse a file whose name says another format than the device's; a name that says none is believed."""
    told = model.suffix.removeprefix(".").lower()
    if told in plugins.names(FORMATS) and told != device.format:
        raise ModelError(
            f"{model} is of format {told}, but {device.name} runs {device.format} files (runtime {device.runtime}); "
            "name a device whose runtime loads it"
        )


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
