"""`pipeline devices calibrate`: a network against itself, and how far the device's intervals can be trusted."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline import serialization
from pipeline.cli.console import err, out, print_json
from pipeline.cli.signals import StartUp, stop_requested
from pipeline.cli.views.live import view
from pipeline.cli.views.lock_wait import print_when_waiting
from pipeline.cli.views.run import table_of
from pipeline.config import RunConfig, load_config
from pipeline.devices.stored_calibrations import store_calibration
from pipeline.errors import ConfigError, DeviceError, MeasureError, PipelineError, StoppedError
from pipeline.events import Listener, Note, Stage
from pipeline.measurement.calibration import FEWEST, Calibration, Checked, Conditions
from pipeline.records import Device

if TYPE_CHECKING:
    from pipeline.devices.agent_client import Agent
    from pipeline.evaluation.self_comparison import CalibrationPlan, SelfMeasurement

USUAL = 20
"""Measurements of each length and kind: a share of 5 % is then known to ± 5 points."""

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LEGEND = (
    "different: pairs of measurements of the same network that are called different (5 % level); 2 to 5 % by chance\n"
    "holds 1: intervals that hold the true ratio, of which 95 % should; ± after a share is its standard error\n"
    "blocks: the spread within the process alone; + processes: with what differs between processes, as in a run"
)


@dataclass(frozen=True, kw_only=True)
class CalibrateArguments:
    """What was typed after `pipeline devices calibrate`."""

    device: Device
    measurements: int | None
    budget: str | None
    model: str | None
    data: str | None


def calibrate_and_show(arguments: CalibrateArguments, *, json: bool) -> None:
    """Measure, print what came of it, and keep it with the device.

    Raises:
        UserError: an option cannot be used.
        StoppedError, DeviceError, MeasureError: it ended early; what was measured until then is printed, and kept if
            it is enough.
    """
    config = load_config(None, {"model": arguments.model, "data": arguments.data})
    budget_s = None if arguments.budget is None else seconds_of(arguments.budget)
    with ExitStack() as stack:
        stopping = stack.enter_context(stop_requested())
        with view() as show:
            start = StartUp(show, stopping)
            with start.ended_at_once():
                show(Stage("Load torch"))
                from pipeline.evaluation.self_comparison import (
                    measured,  # takes seconds: what was mistyped is reported before
                )

                agent, skeleton, model = _ready(arguments.device, config, stack, show)
                conditions = Conditions.of(agent.device, agent.facts, agent.settings_for(agent.device.measure))
                plan = _plan(agent, arguments.measurements, budget_s)
                show(Note(_beforehand(plan, model)))
            found: list[SelfMeasurement] = []
            ended: PipelineError | None = None
            try:
                for single in measured(agent, skeleton, plan, listen=show, stopping=stopping):
                    found.append(single)
            except (StoppedError, DeviceError, MeasureError) as error:
                ended = error
        calibration = _made_of(found, plan, arguments.device, conditions, model, ended)
        _keep_and_print(arguments.device, calibration, json)
    if ended is not None:
        raise ended


def seconds_of(text: str) -> float:
    """Return a time that was typed, in seconds.

    >>> seconds_of("10m"), seconds_of("1.5h"), seconds_of("90s")
    (600.0, 5400.0, 90.0)
    """
    found = _BUDGET.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--budget: expected a time like 10m, 90s or 1h, found {text!r}")
    return seconds


def _ready(device: Device, config: RunConfig, stack: ExitStack, listen: Listener) -> tuple[Agent, bytes, str]:
    """Return the agent that holds the board, the network's skeleton and the network's name."""
    from pipeline.devices.agent_client import open_agent
    from pipeline.models import default_model
    from pipeline.run.inputs import format_of, load_inputs

    listen(Stage(f"Load {config.data}"))
    inputs = load_inputs(config, listen=listen)
    listen(Stage(f"Connect to {device.name}"))
    agent = stack.enter_context(open_agent(device, on_event=print_when_waiting()))
    skeleton = format_of(inputs, agent, listen).skeleton(inputs.network)
    agent.hold()
    return agent, skeleton.data, config.model or default_model(inputs.data)


def _plan(agent: Agent, measurements: int | None, budget_s: float | None) -> CalibrationPlan:
    """Return how much is measured.

    Raises:
        ConfigError: the time is too short for a calibration that could be kept.
    """
    from pipeline.evaluation.self_comparison import CalibrationPlan, about

    number = USUAL if measurements is None and budget_s is None else measurements
    plan = CalibrationPlan(settings=agent.settings_for(agent.device.measure), measurements=number, budget_s=budget_s)
    if budget_s is not None and budget_s < FEWEST * plan.round_s:
        raise ConfigError(
            f"--budget: {FEWEST} measurements of each length take {about(FEWEST * plan.round_s)} on "
            f"{agent.device.name}, found {budget_s:g} s; give more time"
        )
    return plan


def _beforehand(plan: CalibrationPlan, model: str) -> str:
    from pipeline.evaluation.self_comparison import about

    often = "" if plan.measurements is None else f"{plan.measurements} measurements each, "
    return (
        f"{model} against itself, as long as in the search, 3 and 9 times as long, in one process and in several: "
        f"{often}{about(plan.expected_s)}; Ctrl-C ends it with what is measured by then"
    )


def _made_of(
    found: list[SelfMeasurement],
    plan: CalibrationPlan,
    device: Device,
    conditions: Conditions,
    model: str,
    ended: PipelineError | None,
) -> Calibration:
    """Return the calibration; raises what ended it where there is too little to say anything."""
    from pipeline.evaluation.self_comparison import ratios_by_unit
    from pipeline.measurement.calibration import calibration, fewest

    taken = ratios_by_unit(found, plan)
    if fewest(taken) < 2:
        raise ended or DeviceError(
            f"{device.name}: fewer than two measurements of a length were valid; "
            f"`pipeline devices doctor {device.name}` finds out what disturbs them; or measure more: --measurements"
        )
    invalid = sum(single.ratio is None for single in found)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return calibration(taken, device=device, conditions=conditions, model=model, date=date, invalid=invalid)


def _keep_and_print(device: Device, calibration: Calibration, json: bool) -> None:
    enough = calibration.measurements >= FEWEST
    path = store_calibration(device, calibration) if enough else None
    if json:
        print_json({**as_json(calibration), "stored": None if path is None else str(path)})
        return
    out.print(table(calibration))
    out.print(_LEGEND, style="dim")
    out.print(f"from process to process the ratio differs by {_deviation(calibration)}")
    if calibration.invalid:
        out.print(f"{calibration.invalid} measurements were invalid and are left out", style="dim")
    if path is not None:
        out.print(f"stored  {path}", markup=False)
    else:
        err.print(f"not stored: {FEWEST} measurements of each length and kind are kept at least, found "
                  f"{calibration.measurements}; give more time or --measurements")  # fmt: skip


def as_json(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain values, with what its figures come to."""
    return {**serialization.dump(calibration), "between": calibration.spread.between}


def table(calibration: Calibration) -> Table:
    """Return the figures, a row for each length and kind of interval."""
    rows = table_of("length", "processes", "interval from", "measured", "different", "holds 1", "± of the ratio")
    for checked in calibration.checked:
        rows.add_row(
            f"{checked.times:g}×", str(checked.processes), _source(checked), str(checked.measurements),
            str(checked.different), str(checked.covered), f"{100 * checked.half_width:.2f} %",
        )  # fmt: skip
    return rows


def _source(checked: Checked) -> str:
    return "processes" if checked.processes > 1 else "blocks + processes" if checked.widened else "blocks"


def _deviation(calibration: Calibration) -> str:
    spread = calibration.spread
    freedom = f"{spread.freedom:.0f} degrees of freedom"
    return f"{100 * spread.between:.2g} % (standard deviation beyond the blocks' own; {freedom})"
