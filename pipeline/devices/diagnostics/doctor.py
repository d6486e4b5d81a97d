"""Device doctor: all of `check`, then the board and its power sensor idle and under load.

How far the board's intervals can be trusted is not measured here, but reported where the device is calibrated.

The board is held meanwhile, in the modes of a run, so that the doctor sees what a run would see. What it saw is
``Evidence``; each verdict is a pure function of that, here for the board, in ``meter_findings`` for the sensor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.answers import Metered
from pipeline.devices import agent_plugins
from pipeline.devices.agent_client import Agent, Telemetry, open_agent, telemetry_of
from pipeline.devices.compatibility import onnx_support_of
from pipeline.devices.connection import OnEvent
from pipeline.devices.diagnostics import sensor_findings
from pipeline.devices.diagnostics.check import Finding, findings_with_agent, findings_without_agent, without_retries
from pipeline.devices.stored_calibrations import Known
from pipeline.errors import AgentError, BoardHeldError, DeviceError, MeasureError
from pipeline.measurement.sensor_quality import MeterReport, meter_report
from pipeline.records import Device, DeviceFacts, PowerSettings

WAIT_S = 5.0
"""For a board that somebody else holds: a doctor's visit is not worth a run's patience."""
QUIET_S = 1.0
"""Watched at rest, to see how busy others keep the board."""
BUSY_CORES = 0.1
HOT_C, TOO_HOT_C = 75.0, 85.0
"""A Raspberry Pi slows down from 80 °C on (its 3B+ from 60), a Jetson's zones trip between 95 and 100."""
LEAST_FREE_MB = 150.0

_THROTTLING: Mapping[int, tuple[str, str]] = {
    0: ("under-voltage", "a 5.1 V, 3 A supply with a short, thick cable; with a shunt in the line, a smaller one"),
    1: ("clock capped", "see under-voltage and temperature"),
    2: ("throttled", "see under-voltage and temperature"),
    3: ("soft temperature limit", "a heat sink or a fan"),
}
"""Bits of Raspberry Pi's get_throttled, now; the same + 16: since boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one board."""

    device: Device
    facts: DeviceFacts
    held: Mapping[str, Any]
    """The answer to ``hold``: modes applied and refused."""
    quiet_s: float
    quiet: tuple[Telemetry, Telemetry]
    """At rest, ``quiet_s`` apart."""
    before: Telemetry
    during: Telemetry
    """At the end of the load, which is still on."""
    after: Telemetry
    threads: int
    report: MeterReport | None = None
    meter_error: str | None = None
    """Why there is no report, where there is a sensor."""


def examine(device: Device, seconds: float, *, on_event: OnEvent | None = None) -> list[Finding]:
    """Check ``device``, then watch it for ``seconds`` at rest and as long at work. Never raises a DeviceError."""
    patient = replace(without_retries(device), lock=replace(device.lock, wait_s=min(WAIT_S, device.lock.wait_s)))
    try:
        agent = open_agent(patient, on_event=on_event)
    except DeviceError as e:
        return findings_without_agent(device, e)
    with agent:
        findings = [*findings_with_agent(agent), calibrated(agent.calibration(), agent.device.name)]
        try:
            return [*findings, *diagnosis(observe(agent, seconds))]
        except BoardHeldError as e:
            return [*findings, Finding("watch", False, str(e).partition("; ")[0], "try again when the board is free")]
        except (DeviceError, ValueError) as e:
            return [*findings, Finding("watch", False, str(e), "`PIPELINE_LOG=debug` says more")]


def observe(agent: Agent, seconds: float, quiet_s: float = QUIET_S) -> Observation:
    """Hold the board and watch it.

    Raises:
        DeviceError: somebody else holds it, or the way to it failed.
        ValueError: the agent's answer makes no sense.
    """
    device, held = agent.device, agent.hold()
    first, start = agent.telemetry(), time.monotonic()
    time.sleep(quiet_s)
    second, quiet_s = agent.telemetry(), time.monotonic() - start
    answer, report, error = _under_load(agent, seconds)
    states = {name: telemetry_of(getattr(answer, name)) for name in ("before", "during", "after")}
    return Observation(
        device=device, facts=agent.facts, held=held, quiet_s=quiet_s, quiet=(first, second), threads=agent.facts.cores,
        report=report, meter_error=error, **states,
    )  # fmt: skip


def _under_load(agent: Agent, seconds: float) -> tuple[Metered, MeterReport | None, str | None]:
    """Test the meter, where one can be read, with the board at rest and at work; else put just the board to work.

    Returns:
        The agent's answer, what it says of the meter, and why it says nothing where a sensor failed on the way.
    """
    error = None
    if agent.facts.sensors.get(agent.power_backend) == "ok":
        try:
            answer = agent.meter(seconds, agent.facts.cores)
            return answer, meter_report(answer) if answer.about else None, None
        except (MeasureError, AgentError, ValueError) as e:
            error = str(e)
    agent.device = replace(agent.device, power=PowerSettings())
    return agent.meter(seconds, agent.facts.cores), None, error


def diagnosis(seen: Observation) -> list[Finding]:
    """Return every verdict on what was seen."""
    return [
        *_system(seen), *_onnx_support(seen), *_modes(seen), *_background_load(seen), *_free_space(seen),
        *_temperature(seen), *_throttling(seen),
        *sensor_findings.findings(seen.device, seen.facts, seen.report, seen.meter_error),
    ]  # fmt: skip


def throttling_in_words(bits: int) -> str:
    """Return what Raspberry Pi's throttling bits say.

    >>> throttling_in_words(0x50005)
    'now: under-voltage, throttled; since the board started: under-voltage, throttled'
    >>> throttling_in_words(0)
    'never since the board started'
    """
    now = ", ".join(word for bit, (word, _) in _THROTTLING.items() if bits >> bit & 1)
    since = ", ".join(word for bit, (word, _) in _THROTTLING.items() if bits >> (bit + 16) & 1)
    parts = [f"now: {now}"] * bool(now) + [f"since the board started: {since}"] * bool(since)
    return "; ".join(parts) or "never since the board started"


def calibrated(known: Known, name: str) -> Finding:
    """Return the verdict on what is known of a device's intervals; what they widen by is no fault."""
    command = f"`pipeline devices calibrate {name}`"
    if known.never:
        return Finding("calibration", True, f"never; {command} measures how often its intervals hold the truth")
    if known.calibration is None:
        return Finding("calibration", True, f"not used: {known.why.partition('; ')[0]}", command, warning=True)
    if short := known.calibration.short():
        fix = f"end what else runs there, then {command}; until then, intervals are narrower than the truth"
        return Finding("calibration", True, f"{known.calibration}; too few: {short}", fix, warning=True)
    return Finding("calibration", True, str(known.calibration))


def _system(seen: Observation) -> Iterator[Finding]:
    facts, device = seen.facts, seen.device
    known = (facts.system, f"kernel {facts.kernel}", facts.libc, facts.l4t and f"L4T {facts.l4t}", facts.machine)
    detail = ", ".join(part for part in known if part)
    fix = agent_plugins.runtime(device).not_on.get(facts.machine)
    if fix is not None:
        yield Finding("system", False, f"{detail}: {device.runtime} cannot be had for it", fix)
    else:
        yield Finding("system", True, detail)


def _onnx_support(seen: Observation) -> Iterator[Finding]:
    """What the inventory promises of the runtime, against what its version loads."""
    device = seen.device
    version, newest = seen.facts.runtimes.get(device.runtime), agent_plugins.runtime(device).newest_onnx()
    if version is None or not newest:
        return
    loads = onnx_support_of(version, newest)
    opset, ir = device.onnx_max_opset or loads.opset, device.onnx_max_ir or loads.ir
    if opset > loads.opset or ir > loads.ir:
        allowed, loaded = f"opset {opset}, IR {ir}", f"opset {loads.opset}, IR {loads.ir}"
        detail = f"the inventory allows ONNX {allowed}; {device.runtime} {version} there loads {loaded}"
        fix = f"`onnx: {{max_opset: {loads.opset}, max_ir: {loads.ir}}}`, or leave it out"
        yield Finding("format", False, detail, fix)


def _modes(seen: Observation) -> Iterator[Finding]:
    for mode, why in seen.held.get("refused", {}).items():
        fix = "" if "pipeline devices setup" in why else f"change `modes: {mode}` in the inventory, or leave it out"
        fix = fix or f"pipeline devices setup {seen.device.name} --apply"
        yield Finding(f"mode {mode}", True, f"not set: {why}", fix, warning=True)
    for mode, value in seen.held.get("applied", {}).items():
        yield Finding(f"mode {mode}", True, f"{value}, while a run holds the board")
    clock = f" at {seen.during.clock_mhz:.0f} MHz under load" if seen.during.clock_mhz else ""
    governor, offered = seen.during.governor, (seen.facts.governors or "").split(",")
    if governor is None:
        yield Finding("clock", True, f"the kernel shows no governor{clock and ','}{clock}")
    elif governor != "performance" and "performance" in offered and "governor" not in seen.device.modes:
        fix = f"`modes: {{governor: performance}}` in the inventory, then `pipeline devices setup {seen.device.name}`"
        detail = f"governor {governor}{clock}: the clock moves, and so do the figures"
        yield Finding("clock", True, detail, fix, warning=True)
    else:
        yield Finding("clock", True, f"governor {governor}{clock}")


def _background_load(seen: Observation) -> Iterator[Finding]:
    first, last = seen.quiet
    if first.cpu_busy_s is None or last.cpu_busy_s is None:
        yield Finding("others", True, "the board does not say how busy it is")
        return
    busy = (last.cpu_busy_s - first.cpu_busy_s) / seen.quiet_s
    detail = f"{busy:.2f} of {seen.facts.cores} cores busy at rest"
    if busy > max(BUSY_CORES, 0.05 * seen.facts.cores):
        yield Finding(
            "others", True, f"{detail}: other programs are at work", "run `top` on the board to see which", warning=True
        )
    else:
        yield Finding("others", True, detail)


def _free_space(seen: Observation) -> Iterator[Finding]:
    free_mb, swap_mb = seen.quiet[1].memory_free_mb, seen.facts.swap_mb
    if free_mb is None:
        return
    detail = f"{free_mb:.0f} MB of memory free, {swap_mb or 0:.0f} MB of swap"
    if free_mb < LEAST_FREE_MB:
        yield Finding("free memory", True, detail, "end what else runs there, the desktop first", warning=True)
    else:
        yield Finding("free memory", True, detail)


def _temperature(seen: Observation) -> Iterator[Finding]:
    rest, load = seen.quiet[1].temperature_c, seen.during.temperature_c
    if rest is None or load is None:
        yield Finding("temperature", True, "the board does not say")
        return
    detail = f"{rest:.0f} °C at rest, {load:.0f} °C after {seen.threads} cores at work"
    hot = load >= HOT_C
    yield Finding("temperature", load < TOO_HOT_C, detail, "a heat sink or a fan" if hot else "", warning=hot)


def _throttling(seen: Observation) -> Iterator[Finding]:
    """Bits that are set now, or came up during the load, spoil figures; older ones are a warning."""
    before, *later = (_bits(state.throttled) for state in (seen.quiet[0], seen.during, seen.after))
    if before is None:
        if seen.facts.board.startswith("Raspberry Pi"):
            fix = "put the user into the group video: `pipeline devices setup` does; or install `vcgencmd`"
            yield Finding("throttling", True, "unknown: vcgencmd does not answer", fix, warning=True)
        return
    seen_bits = 0
    for bits in later:
        seen_bits |= bits or 0
    bad = seen_bits & 0xF | (seen_bits & ~before) >> 16
    bits = seen_bits | before
    causes = [fix for bit, (_, fix) in _THROTTLING.items() if (bits | bits >> 16) >> bit & 1]
    detail = throttling_in_words(bits) + (" (under the doctor's load)" if bad else "")
    yield Finding("throttling", not bad, detail, "; ".join(dict.fromkeys(causes)), warning=bool(bits))


def _bits(throttled: str | None) -> int | None:
    return int(throttled, 16) if throttled and re.fullmatch(r"0x[0-9a-fA-F]+", throttled) else None
