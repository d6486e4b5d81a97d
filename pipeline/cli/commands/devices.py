"""`pipeline devices`: what is registered, whether it works, what it lacks, how exact it is, whose key is trusted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import Data, Inventory, Json, Model
from pipeline.cli.views.lock_wait import print_when_waiting
from pipeline.devices.inventory.load import Inventory as Registered
from pipeline.devices.inventory.load import is_group, load_inventory
from pipeline.devices.runtime_choice import runtimes_in_words
from pipeline.devices.sessions import host_keys
from pipeline.errors import DeviceError, HostKeyChangedError, PythonMissingError, UserError
from pipeline.records import Device, SshAddress

if TYPE_CHECKING:
    from pipeline.devices.diagnostics.check import Finding
    from pipeline.devices.diagnostics.requirements import Fix
    from pipeline.devices.side_by_side import Outcome
    from pipeline.records import DeviceFacts

app = typer.Typer(
    help="Registered devices: list, trust, check, doctor, setup, calibrate, bench-ops.", no_args_is_help=True
)

_MOST = 4096
"""Channels or pixels of a benchmark's layer."""

Name = Annotated[str, typer.Argument(help="A device of the inventory.")]
Names = Annotated[str, typer.Argument(metavar="NAME", help="A device of the inventory, or all of one: group:NAME.")]


@app.command("list")
def list_devices(
    live: Annotated[
        bool, typer.Option("--live", help="Ask each of them: does it answer, with what, who holds it?")
    ] = False,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """List the registered devices; nothing is connected, unless with --live."""
    found = load_inventory(inventory, partial=True)
    if live:
        _list_live(found, json)
        return
    if json:
        usable = [_as_json(device) for device in found.devices.values()]
        print_json(usable + [_out_of_use(name, problem) for name, problem in found.unusable.items()])
        return
    table = Table("device", "kind", "address", "runtime", "power", "tags", box=None, header_style="bold")
    for device in found.devices.values():
        table.add_row(*(str(value) for value in _as_json(device, shown=True).values()))
    out.print(table)
    for name, problem in found.unusable.items():
        out.print("[bold red]✗[/] ", end="", markup=True)
        out.print(f"{name} is out of use: {problem}", markup=False)
    out.print(
        str(found.path or "no inventory.yaml: `pipeline init` writes one to start from"), markup=False, style="dim"
    )


def _list_live(found: Registered, json: bool) -> None:
    """Ask every board side by side what it is, and who holds it."""
    from pipeline.cli.views.fleet import work_on
    from pipeline.devices.agent_client import open_agent

    def ask(device: Device) -> DeviceFacts:
        with open_agent(device) as agent:
            return agent.facts

    asked = work_on([device for device in found.devices.values() if device.recording is None], "asking", ask)
    if json:
        print_json([_live_as_json(outcome) for outcome in asked])
    else:
        table = Table(
            "device", "answers", "board", "python", "runtimes", "°C", "held by", box=None, header_style="bold"
        )
        for outcome in asked:
            table.add_row(*_live_row(outcome))
        out.print(table)
    if any(outcome.error for outcome in asked):
        raise typer.Exit(1)


def _live_as_json(outcome: Outcome[DeviceFacts]) -> dict[str, object]:
    facts = outcome.value
    names = ("board", "cpu", "cores", "python", "runtimes", "sensors", "temperature_c", "throttled", "holder")
    known = {name: None if facts is None else getattr(facts, name) for name in names}
    return {"name": outcome.device, **known, "problem": None if outcome.error is None else str(outcome.error)}


def _live_row(outcome: Outcome[DeviceFacts]) -> list[Text]:
    facts = outcome.value
    if facts is None:
        return [Text(outcome.device), Text("✗", style="red"), Text(str(outcome.error), style="red")]
    computing = {name: version for name, version in facts.runtimes.items() if not name.startswith("null")}
    runtimes = ", ".join(f"{name} {version.partition(' ')[0]}".strip() for name, version in computing.items())
    heat = "" if facts.temperature_c is None else f"{facts.temperature_c:.0f}"
    words = (facts.board or facts.cpu, facts.python, runtimes, heat, facts.holder or "nobody")
    return [Text(outcome.device), Text("✓", style="green"), *map(Text, words)]


def _as_json(device: Device, *, shown: bool = False) -> dict[str, object]:
    ssh = device.ssh
    address = None if ssh is None else f"{ssh.user + '@' if ssh.user else ''}{ssh.host}:{ssh.port}"
    power = device.power.backend
    more = {} if shown else {"recording": device.recording, "problem": None}
    return {
        "name": device.name,
        "kind": device.kind,
        "address": address or (_without_address(device) if shown else None),
        "runtime": runtimes_in_words(device),
        "power": {"null": "not measured", "auto": "if readable"}.get(power, power) if shown else power,
        "tags": ", ".join(device.tags) if shown else list(device.tags),
        **more,
    }


def _out_of_use(name: str, problem: str) -> dict[str, object]:
    """Return what `devices list --json` says of a device whose entry has a mistake."""
    unknown = ("kind", "address", "runtime", "power", "recording")
    return {"name": name, **dict.fromkeys(unknown), "tags": [], "problem": problem}


def _real(device: Device) -> Device:
    """Return a device that there is; what a recorded one lacks is not to be fixed on whatever machine plays it."""
    if device.recording is None:
        return device
    raise UserError(f"{device.name} plays the recording {device.recording}: there is no board; name the board itself")


def _without_address(device: Device) -> str:
    return "this machine" if device.recording is None else f"plays {device.recording}"


@app.command()
def check(name: Names, inventory: Inventory = None, json: Json = False) -> None:
    """Connect and look at python, runtimes, sensor and permissions; each ✗ comes with its fix."""
    from pipeline.devices.diagnostics.check import check_device  # the agent's statistics take their time to import

    if is_group(name):
        _print_group(load_inventory(inventory, partial=True).selected(name), "checking", check_device, json)
        return
    device = load_inventory(inventory, partial=True).device(name)
    with err.status(f"checking {name} …"):
        findings = check_device(device)
    _print_findings(findings, json)


@app.command()
def doctor(
    name: Names,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, help="How long to watch at rest, and again at work.")
    ] = 5.0,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Check, then watch the board and its meter at rest and with all cores at work; findings come with fixes."""
    from pipeline.devices.diagnostics.doctor import examine  # as above

    if is_group(name):
        boards = [_real(device) for device in load_inventory(inventory, partial=True).selected(name)]
        _print_group(boards, "watching", lambda device: examine(device, seconds, on_event=print_when_waiting()), json)
        return
    device = _real(load_inventory(inventory, partial=True).device(name))
    with err.status(f"watching {name} for {2 * seconds:g} s …"):
        findings = examine(device, seconds, on_event=print_when_waiting())
    _print_findings(findings, json)


@app.command()
def calibrate(
    name: Name,
    measurements: Annotated[
        int | None,
        typer.Option("--measurements", metavar="N", min=2, help="Of each length and kind; default: 20, or the budget."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Measure so long at most: 10m, 90s, 1h.")
    ] = None,
    model: Model = None,
    data: Data = None,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Measure a network against itself: how often its intervals hold the truth; kept with the device."""
    from pipeline.cli.commands.calibrate import CalibrateArguments, calibrate_and_show  # as above

    device = _real(load_inventory(inventory, partial=True).device(name))
    arguments = CalibrateArguments(device=device, measurements=measurements, budget=budget, model=model, data=data)
    calibrate_and_show(arguments, json=json)


@app.command("bench-ops")
def bench_ops(
    name: Name,
    widths: Annotated[
        str, typer.Option("--widths", metavar="N,N,…", help="Channels of the layers.")
    ] = "8,16,32,64,128",
    sides: Annotated[str, typer.Option("--sides", metavar="N,N,…", help="Sides of the maps, in pixels.")] = "8,16,32",
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Measure where INT8 is faster on a board: by kind of layer, width and map."""
    from pipeline.cli.commands.bench_ops import bench_and_show  # onnx takes its time to import

    device = _real(load_inventory(inventory, partial=True).device(name))
    bench_and_show(device, _numbers("--widths", widths), _numbers("--sides", sides), json=json)


def _numbers(option: str, text: str) -> list[int]:
    """Return the numbers of an option, each from 1 on."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number <= _MOST for number in found):
        raise UserError(f"{option}: expected whole numbers from 1 to {_MOST} with commas between, found {text!r}")
    return found


@app.command()
def setup(
    name: Names,
    apply: Annotated[bool, typer.Option("--apply", help="Run the commands on the board, then check it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply without asking.")] = False,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Print what the board lacks as a shell script to run there, least privilege first; --apply runs it."""
    from pipeline.devices.diagnostics import requirements  # as above

    if is_group(name):
        _set_up_group([_real(one) for one in load_inventory(inventory, partial=True).selected(name)], apply, yes, json)
        return
    device = _real(load_inventory(inventory, partial=True).device(name))
    with err.status(f"looking at {name} …"):
        fixes = _lacking(device)
    text = requirements.script(fixes, device) if fixes else ""
    answer = {"lacking": [fix.title for fix in fixes], "script": text, "applied": False}
    if not fixes:
        err.print(f"{name} lacks nothing that a command could bring; `pipeline devices doctor {name}` looks closer")
    elif not json:
        sys.stdout.write(text)
    if fixes and apply:
        _apply(device, text, yes)
        answer["applied"] = True
        if not json:
            check(name, inventory)
    elif fixes and not json:
        err.print(f"to have it done: [bold]pipeline devices setup {name} --apply[/]", markup=True)
    if json:
        print_json(answer)


def _set_up_group(boards: list[Device], apply: bool, yes: bool, json: bool) -> None:
    """Print what each board lacks; with --apply, run it on one after the other."""
    from pipeline.cli.views.fleet import work_on
    from pipeline.devices.diagnostics import requirements

    looked_at = work_on(boards, "looking at", _lacking)
    scripts = {
        outcome.device: requirements.script(outcome.value, board)
        for outcome, board in zip(looked_at, boards, strict=True)
        if outcome.value
    }
    if json:
        print_json(
            [
                {
                    "name": one.device,
                    "lacking": [fix.title for fix in one.value or []],
                    "script": scripts.get(one.device, ""),
                    "problem": None if one.error is None else str(one.error),
                }
                for one in looked_at
            ]
        )
    for one, board in zip(looked_at, boards, strict=True):
        if not json:
            _print_setup(one, scripts.get(one.device, ""))
        if apply and one.device in scripts:
            _apply(board, scripts[one.device], yes)
    if any(one.error for one in looked_at):
        raise typer.Exit(1)


def _print_setup(one: Outcome[list[Fix]], script: str) -> None:
    """Print one board's script, which can be told from the next one's; or that there is none, and why."""
    if one.error is not None:
        err.print(f"✗ {one.device}: {one.error}", markup=False, style="red")
    elif not script:
        err.print(f"✓ {one.device} lacks nothing that a command could bring", markup=False, style="green")
    else:
        out.print(f"# ---- {one.device} ----", markup=False, style="bold")
        sys.stdout.write(script)


def _lacking(device: Device) -> list[Fix]:
    """Return what the device lacks; a board without Python lacks that first."""
    from pipeline.devices.agent_client import open_agent
    from pipeline.devices.diagnostics import requirements

    try:
        with open_agent(device) as agent:
            return requirements.missing_requirements(agent)
    except PythonMissingError as error:
        return requirements.missing_python(error, device)


def _apply(device: Device, text: str, yes: bool) -> None:
    """Run the script, if the user says so and the board lets them.

    Raises:
        DeviceError: sudo wants a password, or a command failed.
    """
    from pipeline.devices.diagnostics import requirements

    where = "this machine" if device.ssh is None else f"{device.name} ({device.ssh.host})"
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Run this on {where}?", err=True)):
        err.print("nothing was changed; in a script, say --yes")
        raise typer.Exit(1)
    if "sudo " in text and not requirements.may_sudo(device):
        raise DeviceError(
            f"{device.name}: sudo wants a password there, or is not for this user; log in and run the commands above:"
            f" pipeline devices setup {device.name} > setup.sh"
        )
    with err.status(f"setting up {device.name} …"):
        code, said = requirements.run(device, text)
    err.print(said.rstrip(), markup=False, style="dim")
    if code != 0:
        raise DeviceError(f"{device.name}: a command ended with {code}, see above; the rest was not run")


def _print_group(boards: list[Device], doing: str, look: Callable[[Device], list[Finding]], json: bool) -> None:
    """Look at boards side by side and print one table; exit with 1 when something is wrong with one of them."""
    from pipeline.cli.views.fleet import is_fit, print_findings, work_on

    found = work_on(boards, doing, look)
    if json:
        print_json(
            [
                {
                    "name": one.device,
                    "findings": _findings_as_json(one.value or []),
                    "problem": None if one.error is None else str(one.error),
                }
                for one in found
            ]
        )
    else:
        print_findings(found)
    if not all(is_fit(one) for one in found):
        raise typer.Exit(1)


def _findings_as_json(findings: list[Finding]) -> list[dict[str, object]]:
    names = ("name", "ok", "level", "detail", "fix")
    return [{name: getattr(finding, name) for name in names} for finding in findings]


def _print_findings(findings: list[Finding], json: bool) -> None:
    """Print the findings; exit with 1 when one of them is bad."""
    if json:
        print_json(_findings_as_json(findings))
    else:
        for finding in findings:
            _print_finding(finding)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


_SIGNS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "bad": "[bold red]✗[/]", "skipped": "[dim]–[/]"}


def _print_finding(finding: Finding) -> None:
    out.print(_SIGNS[finding.level], end=" ", markup=True)
    out.print(f"{finding.name:<14}", end="")
    out.print(finding.detail, markup=False, style="dim" if finding.ok is None else "")
    if finding.fix and finding.level in ("warn", "bad"):
        out.print(f"  {'':<14}[bold]→[/] ", end="", markup=True)
        out.print(finding.fix, markup=False)


@app.command()
def trust(
    name: Name,
    inventory: Inventory = None,
    yes: Annotated[bool, typer.Option("--yes", help="Store without asking; only on a network that you trust.")] = False,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256:…", help="Store only if the device shows this key.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another key that was trusted before.")] = False,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME|FILE.pub", help="Let the board take only bundles signed by this key."),
    ] = None,
    forget_key: Annotated[
        str | None, typer.Option("--forget-key", metavar="NAME|FILE.pub", help="Trust this key there no longer.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the host key's SHA-256 fingerprint and, if you say so, store it; or, with --key, whose bundles are taken."""
    device = _real(load_inventory(inventory, partial=True).device(name))
    if key is not None or forget_key is not None:
        _trust_keys(device, key, forget_key, json)
        return
    if device.ssh is None:
        raise UserError(f"{name} is this machine: there is no host key to trust")
    stored = [
        _trust(hop, name, yes, fingerprint if hop is device.ssh else None, replace)
        for hop in host_keys.hops(device.ssh)
    ]
    if json:
        print_json(stored)


def _trust_keys(device: Device, key: str | None, forget_key: str | None, json: bool) -> None:
    """Store on the board which public keys' bundles it takes."""
    from deploy.signing import public_key
    from pipeline.deployment.push import trust as trust_key
    from pipeline.devices.agent_client import open_agent

    changes = [(public_key(one), forget) for one, forget in ((key, False), (forget_key, True)) if one is not None]
    with open_agent(device) as agent:
        now = [trust_key(agent, one, forget=forget) for one, forget in changes][-1]
    if json:
        print_json([one.id for one in now])
        return
    for one in now:
        out.print(f"trusted  SHA-256 {one.id}", markup=False)
    if not now:
        out.print(f"{device.name} trusts no key now, and takes unsigned bundles")


def _trust(address: SshAddress, name: str, yes: bool, fingerprint: str | None, replace: bool) -> dict[str, object]:
    from pipeline.devices.sessions.ssh_connection import fetch_host_key  # paramiko takes its time to import

    key = fetch_host_key(address, name)
    known = host_keys.known(address)
    err.print(f"{key.host}  {key.type}  [bold]{key.fingerprint}[/]", markup=True)
    answer: dict[str, object] = {"host": key.host, "type": key.type, "fingerprint": key.fingerprint, "stored": False}
    if fingerprint and fingerprint != key.fingerprint:
        raise HostKeyChangedError(
            f"{name}: the host shows {key.fingerprint}, expected was {fingerprint}; nothing was stored"
        )
    if any(old.blob == key.blob for old in known):
        err.print("trusted already")
        return answer
    if known and not replace:
        raise HostKeyChangedError(
            f"{name}: the host shows {key.fingerprint}, trusted is {known[0].fingerprint}; if the board was set up "
            f"anew, `pipeline devices trust {name} --replace`; if not, someone may be intercepting the connection"
        )
    err.print("Compare on the board itself:  [bold]ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub[/]", markup=True)
    if not (yes or fingerprint or _confirmed()):
        err.print("nothing was stored; in a script, give --fingerprint SHA256:… as the board itself shows it")
        raise typer.Exit(1)
    host_keys.store(Path(address.known_hosts), key, replace=bool(known))
    err.print(f"stored in {address.known_hosts}")
    return {**answer, "stored": True}


def _confirmed() -> bool:
    return sys.stdin.isatty() and typer.confirm("Is this the key?", err=True)
