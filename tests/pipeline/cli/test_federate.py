"""`pipeline federate`: real sites over Flower, one that sends NaN, one that dies, one of another network."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.federated.flower import FLOWER, VARIABLE
from pipeline.store import Store
from pipeline.store.facts import CONFIG, FEDERATED, POLICY
from tests.certificates import write_certificate
from tests.command_line import Desk, Done, Started, finished, read_until
from tests.conftest import free_port

HOSTILE = Path(__file__).parents[1] / "federated/flower_hostile_site.py"
ROUNDS = 3


@dataclass(frozen=True)
class Federated:
    """What came of a federation."""

    server: Done
    sites: dict[str, Done]
    """Those that took part to the end, and those that did not."""
    desks: dict[str, Desk]

    @property
    def rounds(self) -> list[Any]:
        found: list[Any] = self.server.json["rounds"]
        return found


@pytest.fixture(scope="module", autouse=True)
def flower() -> Iterator[Path]:
    """Flower's environment, made once on this machine: a desk's own cache is an empty one."""
    python = FLOWER.python()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(python))
        yield python


@pytest.fixture(scope="module")
def desks(ran: Desk, new_desk: Callable[[], Desk]) -> Callable[[], Desk]:
    """Make sites: each has a copy of the finished run."""

    def make() -> Desk:
        desk = new_desk()
        shutil.copytree(ran.runs, desk.runs)
        return desk

    return make


@pytest.fixture(scope="module")
def federated(desks: Callable[[], Desk], flower: Path) -> Federated:
    """Three rounds of two sites and one that sends NaN, then dies; another network is refused before."""
    address = f"127.0.0.1:{free_port()}"
    made = {name: desks() for name in ("alpha", "beta", "hostile", "other")}
    have_another_network(made["other"])
    server = made["alpha"].start(
        "federate", "server", "--address", address, "--rounds", str(ROUNDS), "--sites", "3", "--updates", "4", "--json"
    )
    seen = read_until(server, "0 of 3 sites are there")

    def joins(name: str) -> Started:
        return made[name].start("federate", "client", "latest", "--server", address, "--site", name, "--json")

    running: dict[str, Started] = {"alpha": joins("alpha")}
    seen += read_until(server, "site alpha joined")
    running |= {"other": joins("other"), "beta": joins("beta")}
    seen += read_until(server, "site other is refused")
    running["hostile"] = made["hostile"].start_cold(address, command=(str(flower), str(HOSTILE)))
    sites = {name: finished(process) for name, process in running.items()}
    done = finished(server)
    return Federated(Done(done.code, done.out, seen + done.err), sites, made)


def have_another_network(desk: Desk) -> None:
    """Let a finished run have a Q-network of another width, as if it had been searched so."""
    with Store.open(desk.runs, "latest", write=True) as store:
        config = store.required(CONFIG)
        store.set(CONFIG, {**config, "strategy_options": {**config["strategy_options"], "hidden": 32}})
        path = store.path / "run.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM facts WHERE key LIKE 'policy%'")


def kept(desk: Desk) -> bytes:
    with Store.open(desk.runs, "latest") as store:
        return store.blob(store.required(FEDERATED)["policy"]).read_bytes()


def test_sites_keep_the_same_policy_beside_their_own(federated: Federated) -> None:
    assert federated.server.code == 0, federated.server.err
    for name in ("alpha", "beta"):
        assert federated.sites[name].code == 0, federated.sites[name].err
        assert [one["round"] for one in federated.sites[name].json["rounds"]] == [1, 2, 3]
    assert kept(federated.desks["alpha"]) == kept(federated.desks["beta"])
    shown = federated.desks["alpha"].done("runs", "show", "latest").out
    assert "federated policy: after round 3 of 3, as site alpha, which gave it 12 updates; pipeline plan" in shown
    with Store.open(federated.desks["alpha"].runs, "latest") as store:
        fact = store.required(FEDERATED)
        assert (fact["site"], fact["round"], fact["rounds"], fact["updates"]) == ("alpha", 3, 3, 12)
        assert fact["policy"] != store.required(POLICY.of(1))
        assert store.status == "finished"


def test_a_site_that_sends_nan_is_named_left_out_and_told(federated: Federated) -> None:
    first = federated.rounds[0]
    assert "not finite" in first["refused"]["hostile"]
    assert [site["site"] for site in first["sites"]] == ["alpha", "beta"]
    assert "left out: hostile, tensor" in federated.server.err
    assert "the server left this site's weights out: tensor" in federated.sites["hostile"].err


def test_a_site_that_is_killed_is_lost_and_the_others_go_on(federated: Federated) -> None:
    assert federated.sites["hostile"].code == -signal.SIGKILL
    assert [one["lost"] for one in federated.rounds] == [[], ["hostile"], []]
    assert [[site["site"] for site in one["sites"]] for one in federated.rounds] == [["alpha", "beta"]] * ROUNDS
    assert "lost: hostile" in federated.server.err


def test_a_site_of_another_structure_is_refused_by_what_differs(federated: Federated) -> None:
    refused = federated.sites["other"]
    assert refused.code == 1
    assert "refused this site: it has another structure: tensor advantage.weight is 5 × 32" in refused.error
    assert "the federation's is 5 × 64" in refused.error


def test_what_a_site_sends_beside_weights_is_its_name_trials_and_loss(federated: Federated) -> None:
    site = federated.rounds[0]["sites"][0]
    assert set(site) == {"site", "trials", "share", "loss", "updates", "clipped"}
    assert site["updates"] == 4
    assert sum(one["share"] for one in federated.rounds[0]["sites"]) == pytest.approx(1)


def test_the_federated_policy_plans_and_can_be_begun_with(federated: Federated) -> None:
    desk = federated.desks["beta"]
    shown = desk.done("plan", "latest", "--policy", "federated", "--target", "latency=0.9x", "--no-measure")
    assert "policy the federation's, in " in shown.out
    assert ":federated --target latency=0.9x" in shown.out
    refused = federated.desks["other"].do("plan", "latest", "--policy", "federated", "--target", "latency=0.9x")
    assert "keeps no federated policy" in refused.error
    assert "stands nothing, or :federated" in desk.do("run", "--config", "run.yaml", "--warm-start", "latest:x").error


# ---------------------------------------------------------------- encrypted, cut off, resumed


def test_a_server_that_was_killed_goes_on_and_its_site_comes_back_over_tls(desks: Callable[[], Desk]) -> None:
    desk, port = desks(), free_port()
    write_certificate(desk.folder)
    serves = (
        "federate", "server", "--address", f"127.0.0.1:{port}", "--sites", "1", "--updates", "1",
        "--tls-cert", "server.pem", "--tls-key", "server.key", "--rounds",
    )  # fmt: skip
    server = desk.start(*serves, "1000")
    read_until(server, "waiting for the others")
    site = desk.start(
        "federate", "client", "latest", "--server", f"localhost:{port}", "--tls-ca", "server.pem", "--site", "one"
    )
    read_until(server, "round 2 of 1000")
    server.kill()
    server.communicate()
    with sqlite3.connect(f"file:{next(desk.runs.glob('*/run.sqlite'))}?mode=ro", uri=True) as database:
        (before,) = database.execute("SELECT json FROM facts WHERE key = 'federated policy'").fetchone()
    done = json.loads(before)["round"]
    again = desk.start(*serves, str(done + 3))
    seen = read_until(again, "goes on after round")
    assert f"{done + 3} rounds" in seen
    ended, served = finished(site), finished(again)
    assert ended.code == 0, ended.err
    assert served.code == 0, served.err
    assert "site one joined" in served.err


def test_a_server_that_is_asked_to_stop_ends_at_once_and_says_how_to_go_on(desk: Desk) -> None:
    server = desk.start("federate", "server", "--address", f"127.0.0.1:{free_port()}")
    read_until(server, "waiting for the others")
    server.send_signal(signal.SIGINT)
    ended = finished(server)
    assert ended.code == 130
    assert "stopped after round 0 of 10; the same command goes on with it" in ended.err


def test_a_site_that_is_asked_to_stop_ends_at_once(desks: Callable[[], Desk]) -> None:
    desk = desks()
    site = desk.start("federate", "client", "latest", "--server", f"127.0.0.1:{free_port()}")
    read_until(site, "waiting for the server")
    site.send_signal(signal.SIGINT)
    ended = finished(site)
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "stopped"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("server --address 0.0.0.0:8080", "weights would travel in clear: give --tls-cert and --tls-key"),
        ("client latest --server 10.1.2.3:8080", "weights would travel in clear: give --tls-ca"),
        ("server --tls-cert run.yaml", "--tls-cert and --tls-key go together"),
        ("server --tls-cert run.yaml --tls-key run.yaml", "run.yaml is not a PEM file"),
        ("server --address nowhere", "expected HOST:PORT"),
        ("server --checkpoint run.yaml", "not a federation's checkpoint"),
        ("client latest --server 127.0.0.1:1 --site a/b", "expected up to 40 letters"),
        ("client latest --server 127.0.0.1:1", "no run"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_sent(desk: Desk, words: str, why: str) -> None:
    assert why in desk.do("federate", *words.split()).error


def test_an_environment_without_flower_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    refused = desk.do("federate", "server", "--address", f"127.0.0.1:{free_port()}")
    assert refused.code == 1
    assert f"has no Flower; unset {VARIABLE} to have an environment made that has" in refused.error


def test_a_server_that_is_not_there_is_waited_for_no_longer_than_asked(desks: Callable[[], Desk]) -> None:
    refused = desks().do("federate", "client", "latest", "--server", f"127.0.0.1:{free_port()}", "--patience", "1s")
    assert refused.code == 1
    assert "cannot be reached" in refused.error
