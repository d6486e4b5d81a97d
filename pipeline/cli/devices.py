"""`pipeline devices`: what is registered, whether it works, and whose host key is trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import Inventory, Json
from pipeline.errors import HostKeyChangedError, UserError
from pipeline.inventory import load_inventory
from pipeline.records import Device, SshAddress
from pipeline.sessions import host_keys

if TYPE_CHECKING:
    from pipeline.checks import Finding

app = typer.Typer(help="Registered devices: list, check, trust.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A device of the inventory.")]


@app.command("list")
def list_devices(inventory: Inventory = None, json: Json = False) -> None:
    """List the registered devices; nothing is connected."""
    found = load_inventory(inventory)
    if json:
        print_json([_as_json(device) for device in found.devices.values()])
        return
    table = Table("device", "kind", "address", "runtime", "power", "tags", box=None, header_style="bold")
    for device in found.devices.values():
        table.add_row(*(str(value) for value in _as_json(device, shown=True).values()))
    out.print(table)
    out.print(
        str(found.path or "no inventory.yaml: `pipeline init` writes one to start from"), markup=False, style="dim"
    )


def _as_json(device: Device, *, shown: bool = False) -> dict[str, object]:
    ssh = device.ssh
    address = None if ssh is None else f"{ssh.user + '@' if ssh.user else ''}{ssh.host}:{ssh.port}"
    power = device.power.backend
    return {
        "name": device.name,
        "kind": device.kind,
        "address": address or ("this machine" if shown else None),
        "runtime": device.runtime,
        "power": {"null": "not measured", "auto": "if readable"}.get(power, power) if shown else power,
        "tags": ", ".join(device.tags) if shown else list(device.tags),
    }


@app.command()
def check(name: Name, inventory: Inventory = None, json: Json = False) -> None:
    """Connect and look at python, runtimes, sensor and permissions; each ✗ comes with its mend."""
    from pipeline.checks import check_device  # the agent's statistics take their time to import

    device = load_inventory(inventory).device(name)
    with err.status(f"checking {name} …"):
        findings = check_device(device)
    if json:
        print_json([{"name": f.name, "ok": f.ok, "detail": f.detail, "mend": f.mend} for f in findings])
    else:
        for finding in findings:
            _print_finding(finding)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _print_finding(finding: Finding) -> None:
    sign = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]–[/]"}[finding.ok]
    out.print(f"{sign} {finding.name:<12}", end="")
    out.print(finding.detail, markup=False, style="dim" if finding.ok is None else "")
    if finding.mend and finding.ok is False:
        out.print(f"  {'':<12}[bold]→[/] ", end="")
        out.print(finding.mend, markup=False)


@app.command()
def trust(
    name: Name,
    inventory: Inventory = None,
    yes: Annotated[bool, typer.Option("--yes", help="Store without asking; only where nobody can listen in.")] = False,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256:…", help="Store only if the device shows this key.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another key that was trusted before.")] = False,
    json: Json = False,
) -> None:
    """Show the host key's SHA-256 fingerprint and, if you say so, store it."""
    device = load_inventory(inventory).device(name)
    if device.ssh is None:
        raise UserError(f"{name} is this machine: there is no host key to trust")
    stored = [
        _trust(hop, name, yes, fingerprint if hop is device.ssh else None, replace)
        for hop in host_keys.hops(device.ssh)
    ]
    if json:
        print_json(stored)


def _trust(address: SshAddress, name: str, yes: bool, fingerprint: str | None, replace: bool) -> dict[str, object]:
    from pipeline.sessions.link import fetch_host_key  # paramiko takes its time to import

    key = fetch_host_key(address, name)
    known = host_keys.known(address)
    err.print(f"{key.host}  {key.type}  [bold]{key.fingerprint}[/]")
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
            f"anew, `pipeline devices trust {name} --replace`; if not, somebody may be listening in"
        )
    err.print("Compare on the board itself:  [bold]ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub[/]")
    if not (yes or fingerprint or _confirmed()):
        err.print("nothing was stored; in a script, give --fingerprint SHA256:… as the board itself shows it")
        raise typer.Exit(1)
    host_keys.store(Path(address.known_hosts), key, replace=bool(known))
    err.print(f"stored in {address.known_hosts}")
    return {**answer, "stored": True}


def _confirmed() -> bool:
    return sys.stdin.isatty() and typer.confirm("Is this the key?", err=True)
