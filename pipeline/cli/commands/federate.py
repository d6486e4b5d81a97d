"""`pipeline federate`: sites that share no data train one policy together."""

from __future__ import annotations

import platform
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS, Json, Runs, runs_option

if TYPE_CHECKING:
    from pipeline.federated.federation import Federation, Round

app = typer.Typer(help="One policy of several sites; only its weights travel.", no_args_is_help=True)

Insecure = Annotated[
    bool, typer.Option("--insecure", help="Allow a network without TLS: where it is encrypted already, as in a VPN.")
]


@app.command()
def server(
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100_000, metavar="N", help="In all.")] = 10,
    sites: Annotated[
        int, typer.Option("--sites", min=1, metavar="K", help="That are waited for before the first round.")
    ] = 2,
    least: Annotated[
        int | None,
        typer.Option(
            "--min-sites", min=1, metavar="K", help="That a round needs; default: 2, or all where they are fewer."
        ),
    ] = None,
    address: Annotated[str, typer.Option("--address", metavar="HOST:PORT", help="To listen on.")] = "127.0.0.1:8080",
    certificate: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The server's certificate, PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")] = None,
    insecure: Insecure = False,
    updates: Annotated[
        int, typer.Option("--updates", min=1, max=100_000, metavar="N", help="Gradient steps of a site in a round.")
    ] = 300,
    round_timeout: Annotated[
        str, typer.Option("--round-timeout", metavar="TIME", help="After it a round goes on without whoever is late.")
    ] = "10m",
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint", metavar="FILE", help="Of the mean; where it is there, the server goes on with it."
        ),
    ] = Path("federation.safetensors"),
    json: Json = False,
) -> None:
    """Average what sites learn, round by round; needs no data, no run, no board."""
    from pipeline.cli.signals import stop_requested
    from pipeline.durations import parse_duration_s
    from pipeline.errors import ConfigError, StoppedError
    from pipeline.federated.address import address_of, read_pem, require_encrypted, require_free
    from pipeline.federated.federation import Federation
    from pipeline.federated.flower import require_flower

    place = address_of(address)
    if (certificate is None) != (key is None):
        raise ConfigError("--tls-cert and --tls-key go together: a certificate and its private key")
    require_encrypted(place, is_encrypted=certificate is not None, insecure=insecure, option="--tls-cert and --tls-key")
    try:
        timeout_s = parse_duration_s(round_timeout)
    except ValueError as error:
        raise ConfigError(f"--round-timeout {round_timeout}: {error}") from error
    pem = None if certificate is None or key is None else (read_pem(certificate), read_pem(certificate), read_pem(key))
    federation = Federation(checkpoint)
    if federation.done >= rounds:
        raise ConfigError(
            f"{checkpoint} has {federation.done} rounds already; ask for more: --rounds {federation.done + 10}"
        )
    require_free(place)
    require_flower(_say)
    from pipeline.federated.flower_server import Heard, ServerSettings, serve  # Flower takes a second to import

    settings = ServerSettings(
        address=place, rounds=rounds, sites=sites, least=min(2, sites) if least is None else least, updates=updates,
        round_timeout_s=timeout_s, certificates=pem,
    )  # fmt: skip
    begun = f"goes on after round {federation.done}" if federation.done else "begins"
    err.print(f"the federation {begun}: {rounds} rounds, {place}, {'TLS' if pem else 'not encrypted'}")
    with stop_requested() as stopping:
        serve(
            settings, federation, Heard(said=_say, closed=lambda done: _say(_of_round(done, rounds)), stopping=stopping)
        )
        if stopping() and federation.done < rounds:
            raise StoppedError(f"stopped after round {federation.done} of {rounds}; the same command goes on with it")
    _print_server(federation, rounds, checkpoint, json)


@app.command()
def client(
    run: Annotated[str, typer.Argument(metavar="RUN", help="This site's: its id, the beginning of one, or `latest`.")],
    server_address: Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="Of the federation's server.")],
    site: Annotated[
        str | None,
        typer.Option("--site", metavar="NAME", help="By which the others know this site; default: the host's name."),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option("--tls-ca", metavar="FILE", help="Certificate that the server's is checked by, PEM."),
    ] = None,
    insecure: Insecure = False,
    patience: Annotated[
        str, typer.Option("--patience", metavar="TIME", help="For a server that cannot be reached, or was lost.")
    ] = "10m",
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Take part with a run: learn from the federation's network on, send its weights, keep the mean of all sites."""
    from pipeline.cli.exits import ended_at_once
    from pipeline.durations import parse_duration_s
    from pipeline.errors import ConfigError
    from pipeline.federated.address import address_of, read_pem, require_encrypted
    from pipeline.federated.flower import require_flower
    from pipeline.federated.messages import site_name
    from pipeline.store import Store

    place = address_of(server_address)
    require_encrypted(place, is_encrypted=authority is not None, insecure=insecure, option="--tls-ca")
    pem = None if authority is None else read_pem(authority)
    try:
        name = site_name(site or _host())
        patience_s = parse_duration_s(patience)
    except ValueError as error:
        raise ConfigError(f"--site, --patience: {error}") from error
    Store.open(runs, run).close()
    require_flower(_say)
    with Store.open(runs, run, write=True) as store:
        err.print("[dim]Load torch[/]", markup=True)
        from pipeline.federated.flower_client import Participant, take_part  # torch and Flower take seconds to import
        from pipeline.federated.site import Site

        participant = Participant(Site(store, name, uuid.uuid4().hex), _say)

        def stopped() -> str:
            kept = participant.kept
            return (
                "stopped" if kept is None else f"stopped; run {store.id} keeps what was learnt by round {kept.number}"
            )

        with ended_at_once(stopped):
            take_part(participant, place, pem, patience_s, _say)
        if json:
            rounds = [
                {"round": one.number, "of": one.of, "loss": one.loss, "updates": one.updates}
                for one in participant.rounds
            ]
            print_json({"run": store.id, "site": name, "rounds": rounds})
            return
        where = runs_option(runs)
        out.print(f"run {store.id} keeps the federated policy of site {name}, beside its own")
        out.print(f"next    pipeline plan {store.id} --policy federated --target latency=0.5x{where}", markup=False)
        out.print(
            f"        pipeline run --warm-start {store.id}:federated{where}  # a search begins with it", markup=False
        )


def _host() -> str:
    """Return the host's name as that of a site."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node())[:40].strip("-._") or "site"


def _say(sentence: str) -> None:
    err.print(sentence, markup=False)


def _of_round(done: Round, of: int) -> str:
    """Return what came of a round, in a sentence."""
    sites = [
        f"{one.site} {one.share:.0%} (loss {one.loss:.4g}, {one.updates} updates"
        f"{', scaled down' if one.clipped else ''})"
        for one in done.sites
    ]
    parts = ["mean of " + ", ".join(sites) if sites else "too few sites: the mean stays as it was"]
    parts += [f"left out: {site}, {why}" for site, why in done.refused.items()]
    parts += [f"lost: {', '.join(done.lost)}"] if done.lost else []
    return f"round {done.number} of {of}: {'; '.join(parts)}"


def _print_server(federation: Federation, rounds: int, checkpoint: Path, json: bool) -> None:
    from pipeline import serialization

    if json:
        print_json({
            "checkpoint": str(checkpoint), "done": federation.done, "of": rounds,
            "rounds": [serialization.dump(one) for one in federation.rounds],
        })  # fmt: skip
    else:
        out.print(f"{federation.done} rounds; every site that took part keeps the mean", markup=False)
        out.print(f"checkpoint  {checkpoint}", markup=False)
