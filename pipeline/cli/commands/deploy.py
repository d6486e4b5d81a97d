"""`pipeline deploy`: a bundle onto a board, what runs there, and back to what ran before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli.console import err, out, print_error, print_json
from pipeline.cli.options import Inventory, Json
from pipeline.cli.views.fleet import work_on
from pipeline.cli.views.lock_wait import print_when_waiting
from pipeline.devices.inventory.load import is_group, load_inventory
from pipeline.devices.side_by_side import Outcome
from pipeline.records import Device as Registered

if TYPE_CHECKING:
    from pipeline.answers import Deployed, DeployedVersion
    from pipeline.deployment.push import Pushed

T = TypeVar("T")

app = typer.Typer(help="Bundles on boards: push, status, rollback.", no_args_is_help=True)

Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="A registered device, or all of a group: group:NAME.")
]


@app.command()
def push(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that pull or quantize wrote.")],
    device: Device = "local",
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure it beside the version that runs, before the switch.")
    ] = True,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Verify a bundle, send it, try and measure it on the board, then let it run from one moment to the next."""
    from pipeline.deployment import boards

    if is_group(device):
        _push_to_group(bundle, load_inventory(inventory, partial=True).selected(device), inventory, measure, json)
        return
    with err.status(f"{device}: connecting …") as status:

        def show(stage: str) -> None:
            status.update(Text(f"{device}: {stage} …"))

        pushed = boards.deploy(bundle, device, inventory, measure=measure, on_stage=show, on_event=print_when_waiting())
    if json:
        print_json(_as_json(pushed))
    else:
        _print(pushed)


@app.command()
def status(
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="Of these only, or of all of group:NAME; default: all."),
    ] = None,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Show what runs on every registered board, what ran before, and whose bundles it takes."""
    from pipeline.deployment import boards

    registered = load_inventory(inventory, partial=True)
    asked = [one for name in device for one in registered.selected(name)] if device else registered.devices.values()
    chosen = {one.name: one for one in asked if device or one.recording is None}
    outcomes = work_on(list(chosen.values()), "looking at", lambda one: boards.deployed(one.name, inventory))
    names = list(chosen)
    found = {one.device: one.value for one in outcomes if one.value is not None}
    failed = {one.device: one.error for one in outcomes if one.error is not None}
    if json:
        print_json([{"device": name, **found[name].model_dump(), "error": None} if name in found
                    else {"device": name, "error": str(failed[name])} for name in names])  # fmt: skip
    else:
        _print_table(names, found)
        for problem in failed.values():
            print_error(problem)
    if failed or any(one.problem for one in found.values()):
        raise typer.Exit(1)


@app.command()
def rollback(device: Device = "local", inventory: Inventory = None, json: Json = False) -> None:
    """Let the version run again that ran before; it is on the board still, so this takes a second."""
    from pipeline.deployment import boards

    if is_group(device):
        _roll_group_back(load_inventory(inventory, partial=True).selected(device), inventory, json)
        return
    with err.status(f"{device}: switching back …"):
        switched = boards.roll_back(device, inventory)
    if json:
        print_json(switched.model_dump())
        return
    out.print(Text("✓ ", style="green").append(f"{device} runs {_shown(switched.current)}", style="not bold default"))
    err.print(f"the other one stays: {_shown(switched.previous)}; the same command leads back to it", markup=False)


def _push_to_group(
    bundle: Path, devices: Sequence[Registered], inventory: Path | None, measure: bool, json: bool
) -> None:
    """Deploy on boards side by side: a board that fails keeps what it ran, and holds up no other."""
    from pipeline.deployment import boards

    def push_to(one: Registered) -> Pushed:
        return boards.deploy(
            bundle, one.name, inventory, measure=measure, on_stage=lambda _: None, on_event=print_when_waiting()
        )

    outcomes = work_on(devices, "deploying on", push_to)
    if json:
        print_json([_outcome_as_json(one, _as_json) for one in outcomes])
    else:
        table = _table("device", "runs", "latency", "of the last version's", "sent", "signature checked by")
        for one in outcomes:
            table.add_row(Text(one.device), *_pushed_row(one))
        out.print(table)
    _end_with_errors(outcomes, json)


def _pushed_row(one: Outcome[Pushed]) -> list[Text]:
    pushed = one.value
    if pushed is None:
        return [Text("what it ran before", style="red")]
    latency, ratio = "not measured", ""
    if (of := pushed.measured) is not None:
        latency = f"{of.p50_ms.value:.3f} ms [{of.p50_ms.low:.3f}, {of.p50_ms.high:.3f}]"
        ratio = "" if of.ratio is None else f"{of.ratio.value:.3f}× [{of.ratio.low:.3f}, {of.ratio.high:.3f}]"
    runs = "nothing" if pushed.current is None else pushed.current.title
    return [Text(cell) for cell in (runs, latency, ratio, f"{pushed.sent_bytes:,} B", pushed.checked_by)]


def _roll_group_back(devices: Sequence[Registered], inventory: Path | None, json: bool) -> None:
    """Switch boards back side by side."""
    from pipeline.deployment import boards

    outcomes = work_on(devices, "switching back", lambda one: boards.roll_back(one.name, inventory))
    if json:
        print_json([_outcome_as_json(one, lambda switched: switched.model_dump()) for one in outcomes])
    else:
        table = _table("device", "runs", "before")
        for one in outcomes:
            cells = ("unchanged", "") if one.value is None else (_shown(one.value.current), _shown(one.value.previous))
            table.add_row(Text(one.device), *map(Text, cells))
        out.print(table)
    _end_with_errors(outcomes, json)


def _outcome_as_json(one: Outcome[T], dump: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    found = {} if one.value is None else dump(one.value)
    return {"device": one.device, **found, "error": None if one.error is None else str(one.error)}


def _end_with_errors(outcomes: Sequence[Outcome[T]], json: bool) -> None:
    """Print what failed; exit with 1 where something did."""
    failed = [one.error for one in outcomes if one.error is not None]
    for error in [] if json else failed:
        print_error(error)
    if failed:
        raise typer.Exit(1)


def _print(pushed: Pushed) -> None:
    tested, measured = pushed.self_test, pushed.measured
    signature = {
        "board": "the board checked its signature",
        "host": "its signature was checked here, as the board has no openssl or trusts no key of its own",
        "nobody": "nobody vouches for it: it is unsigned, or by a key that is not known here",
    }[pushed.checked_by]
    lines = [
        f"{pushed.sent_bytes:,} bytes sent, each file compared with its checksum on the board",
        signature,
        f"{tested.inputs} stored inputs answered within {tested.difference:.1e} of the largest score",
    ]
    if measured is not None:
        line = f"latency {measured.p50_ms.value:.3f} ms [{measured.p50_ms.low:.3f}, {measured.p50_ms.high:.3f}]"
        if measured.ratio is not None:
            of = measured.ratio
            line += f", {of.value:.3f}× [{of.low:.3f}, {of.high:.3f}] that of the version that ran until now"
        lines.append(line)
    runs = f"{pushed.device} runs {_shown(pushed.current)}"
    lines.append(runs if pushed.switched else f"{runs}, as it did before")
    for line in lines:
        out.print(Text("✓ ", style="green").append(line, style="not bold default"))
    out.print(f"  {pushed.folder}/current", markup=False, style="dim")
    if pushed.previous is not None:
        err.print(f"back to {_shown(pushed.previous)}: pipeline deploy rollback --device {pushed.device}", markup=False)


def _print_table(names: list[str], found: dict[str, Deployed]) -> None:
    table = _table("device", "runs", "since", "by", "signature", "before")
    for name in names:
        if (one := found.get(name)) is None:
            table.add_row(name, Text("cannot be asked", style="red"))
            continue
        runs = Text("nothing" if one.current is None else one.current.title)
        if one.problem:
            runs.append(f"  damaged: {one.problem}", style="bold red")
        of = one.current
        since, by = (of.deployed or "", of.by or "") if of else ("", "")
        before = "" if one.previous is None else one.previous.title
        table.add_row(Text(name), runs, Text(since), Text(by), Text(_signature(one)), Text(before))
    out.print(table)


def _table(*header: str) -> Table:
    return Table(*header, box=None, header_style="bold", pad_edge=False)


def _signature(one: Deployed) -> str:
    wanted = f"{len(one.trusted)} trusted" if one.trusted else "none required"
    checked = one.current.checked if one.current else None
    return wanted if checked is None else f"checked by the {checked}, {wanted}"


def _shown(version: DeployedVersion | None) -> str:
    return "nothing" if version is None else f"{version.title} ({version.name})"


def _as_json(pushed: Pushed) -> dict[str, Any]:
    from pipeline import serialization

    versions = {name: None if one is None else one.model_dump() for name, one in
                (("current", pushed.current), ("previous", pushed.previous))}  # fmt: skip
    return {
        "device": pushed.device, "folder": pushed.folder, **versions, "sent_bytes": pushed.sent_bytes,
        "signature": pushed.signature, "checked_by": pushed.checked_by, "self_test": pushed.self_test.model_dump(),
        "measurement": None if pushed.measured is None else serialization.dump(pushed.measured),
        "switched": pushed.switched,
    }  # fmt: skip
