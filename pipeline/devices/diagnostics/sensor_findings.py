"""Findings about a power sensor: shunt, rail, rate, noise, supply voltage under load."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.devices.diagnostics.check import Finding
from pipeline.measurement.sensor_quality import MeterReport
from pipeline.measurement.validity import ODD_READINGS
from pipeline.records import Device, DeviceFacts

PLAUSIBLE_REST_W = (0.3, 30.0)
"""What a small board draws at rest; a Raspberry Pi 4 about 3 W, a Jetson Nano's module about 2 W. A shunt that is ten
times what the inventory says lands outside."""
NOISY = 0.10
SLOW_S = 0.25
"""Four values a second; the shortest block with a sensor is 2 s."""
VALUES_PER_BLOCK = 10
ALARM_V, LOW_V = 4.63, 4.75
"""A Raspberry Pi's alarm, from which it throttles; and USB's own lower limit of a 5 V supply."""
DROP = 0.05
_LARGE_SHUNT_OHMS = 0.05


def findings(device: Device, facts: DeviceFacts, report: MeterReport | None, error: str | None) -> Iterator[Finding]:
    """Yield the verdicts on the meter; none where the device has no sensor."""
    if error is not None:
        yield Finding(
            "meter", False, error, device.fixes.get("sensor", "check the wiring and `power` in the inventory")
        )
    if report is None:
        return
    yield _kind(report)
    yield _level(device, report)
    yield _rate(device, report)
    yield _noise(report)
    yield from _supply(device, facts, report)


def _kind(report: MeterReport) -> Finding:
    detail = f"{report.source} sees {report.scope} power, {report.samples} values taken"
    if report.dropped:
        detail += f", {report.dropped} dropped that could not be true"
    if report.estimated:
        return Finding(
            "meter", True, f"{detail}; an estimate, not a measurement", "wire an INA219 to measure", warning=True
        )
    if report.dropped > ODD_READINGS * (report.samples + report.dropped):
        fix = "check the wiring, and that no other program sets or reads the same sensor"
        return Finding("meter", True, detail, fix, warning=True)
    return Finding("meter", True, detail)


def _level(device: Device, report: MeterReport) -> Finding:
    """Whether the watts can be this board's: the shunt is right, the sensor sits in the board's own supply."""
    low, high = PLAUSIBLE_REST_W
    detail = f"{report.rest_w:.2f} W at rest, {report.load_w:.2f} W with all cores at work"
    if report.scope == "board" and not low <= report.rest_w <= high:
        shunt = device.power.options.get("shunt_ohms")
        written = f"shunt_ohms is {shunt:g}" if isinstance(shunt, (int, float)) else "shunt_ohms is not written"
        fix = f"{written}: read the breakout's resistor (R100 is 0.1, R010 is 0.01) and write that into the inventory"
        return Finding("watts", False, f"{detail}: no such board draws that", fix)
    if not report.follows:
        fix = "the sensor is not in this board's supply, or another rail is: check wiring and `power: rail`"
        return Finding("watts", False, f"{detail}: it does not follow the load", fix)
    return Finding("watts", True, detail)


def _rate(device: Device, report: MeterReport) -> Finding:
    every_s = report.refresh_s if report.refresh_s is not None else report.sample_s
    detail = f"a new value every {every_s * 1e3:.0f} ms, read every {report.sample_s * 1e3:.0f} ms"
    wanted_s = VALUES_PER_BLOCK * every_s
    if report.gaps:
        fix = "another program may read the same sensor, or the board is busy: end it"
        return Finding(
            "rate", True, f"{detail}; {report.gaps} gaps, up to {report.longest_gap_s:.2f} s", fix, warning=True
        )
    if report.refresh_s is None:
        fix = "a sensor that always says the same is stuck, or too coarse for this board"
        return Finding("rate", False, "the value hardly ever changes", fix)
    if wanted_s > max(device.measure.block_s, SLOW_S * VALUES_PER_BLOCK):
        fix = f"`measure: {{block_s: {wanted_s:.0f}, min_s: {5 * wanted_s:.0f}}}` in the inventory"
        return Finding("rate", True, f"{detail}: too few values in a block", fix, warning=True)
    return Finding("rate", True, detail)


def _noise(report: MeterReport) -> Finding:
    detail = f"±{report.noise_w * 1e3:.0f} mW at rest ({report.noise_rel:.1%}); lag-1 autocorrelation {report.lag1:.2f}"
    if report.noise_rel > NOISY:
        return Finding("noise", True, detail, "shorten the sensor's wires, or average more", warning=True)
    return Finding("noise", True, detail)


def _supply(device: Device, facts: DeviceFacts, report: MeterReport) -> Iterator[Finding]:
    if report.rest_v is None or report.load_v is None:
        return
    drop_v = report.rest_v - report.load_v
    detail = f"{report.rest_v:.2f} V at rest, {report.load_v:.2f} V at work"
    pi = facts.board.startswith("Raspberry Pi")
    fix = _stronger(device, report)
    if pi and report.load_v < ALARM_V:
        yield Finding("supply", False, f"{detail}: under {ALARM_V} V a Raspberry Pi throttles", fix)
    elif pi and report.load_v < LOW_V:
        yield Finding("supply", True, f"{detail}: close to the {ALARM_V} V at which a Pi throttles", fix, warning=True)
    elif drop_v > DROP * report.rest_v:
        yield Finding("supply", True, f"{detail}: it gives way", fix, warning=True)
    else:
        yield Finding("supply", True, detail)


def _stronger(device: Device, report: MeterReport) -> str:
    """Return what would hold the voltage up, with what the shunt itself takes away."""
    cable = "a 5.1 V, 3 A supply with a short, thick cable"
    shunt = device.power.options.get("shunt_ohms")
    if not isinstance(shunt, (int, float)) or shunt < _LARGE_SHUNT_OHMS or not report.load_v:
        return cable
    lost_v = report.load_w / report.load_v * shunt
    return f"a 0.02 Ω shunt instead of {shunt:g} Ω, which takes {lost_v:.2f} V at this load; or {cable}"
