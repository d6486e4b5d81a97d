"""`pipeline keys`, `sign`, `verify`, `deploy` and `devices trust --key` as a user meets them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.command_line import Desk
from tests.deployments import bundle, inventory


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder with a bundle, and this machine as the board."""
    desk = Desk(tmp_path / "desk")
    desk.write("inventory.yaml", inventory(desk.folder))
    bundle(desk.folder / "net", 1)
    return desk


def test_a_bundle_is_signed_verified_deployed_and_undone(desk: Desk) -> None:
    key = desk.done("keys", "new", "--json").json
    assert desk.done("keys", "list", "--json").json == [key]
    assert "unsigned: nobody vouches for it" in desk.done("verify", "net").out
    refused = desk.do("verify", "net", "--key", "default")
    assert (refused.code, "is unsigned, and has to be signed by default" in refused.error) == (2, True)
    assert desk.done("sign", "net", "--json").json["key"] == key
    assert desk.done("verify", "net", "--key", "default", "--json").json["signature"] == "valid"
    assert desk.done("devices", "trust", "local", "--key", "default", "--json").json == [key["sha256"]]
    pushed = desk.done("deploy", "push", "net", "--json").json
    assert (pushed["checked_by"], pushed["switched"], pushed["previous"]) == ("board", True, None)
    bundle(desk.folder / "next", 2)
    unsigned = desk.do("deploy", "push", "next")
    assert (unsigned.code, "is unsigned" in unsigned.error) == (2, True)
    desk.done("sign", "next")
    said = desk.done("deploy", "push", "next").out
    assert re.search(r"✓ latency [\d.]+ ms .*× \[.*\] that of the version that ran until now", said)
    (listed,) = desk.done("deploy", "status", "--json").json
    assert (listed["current"]["name"][:4], listed["previous"]["name"][:4]) == ("0002", "0001")
    assert "checked by the board, 1 trusted" in desk.done("deploy", "status").out
    assert "✓ local runs" in desk.done("deploy", "rollback").out
    (listed,) = desk.done("deploy", "status", "--json").json
    assert (listed["current"]["name"][:4], listed["previous"]["name"][:4]) == ("0001", "0002")
    assert desk.done("devices", "trust", "local", "--forget-key", "default", "--json").json == []


def test_a_spoilt_bundle_is_refused_by_every_verb_that_would_use_it(desk: Desk) -> None:
    (desk.folder / "net" / "labels.txt").write_text("other\n")
    for verb in (["verify", "net"], ["profile", "net"], ["deploy", "push", "net"], ["sign", "net"]):
        if verb[0] == "sign":
            desk.done("keys", "new")
        done = desk.do(*verb)
        assert (done.code, "labels.txt differs" in done.error) == (2, True), verb
    spoilt = desk.do("apply", "net", "--weights", "net.pt")
    assert (spoilt.code, "labels.txt differs" in spoilt.error) == (2, True)


def test_a_bundle_s_network_is_profiled(desk: Desk) -> None:
    assert desk.done("profile", "net", "--json").json["inferences"] > 0


def test_boards_that_cannot_be_asked_are_told_beside_those_that_can(desk: Desk) -> None:
    text = (desk.folder / "inventory.yaml").read_text()
    gone = "  gone: {host: 127.0.0.1, ssh: {port: 1, known_hosts: none, retries: 0, connect_timeout_s: 1}}\n"
    desk.write("inventory.yaml", text + gone)
    done = desk.do("deploy", "status")
    assert done.code == 1
    assert re.search(r"local +nothing", done.out)
    assert re.search(r"gone +cannot be asked", done.out)
    assert "connection refused" in done.err


def test_what_is_not_there_or_no_board_is_said_in_a_sentence(desk: Desk) -> None:
    shutil.copytree(Path(__file__).parents[2] / "fixtures/older", desk.folder / "older")
    tape = "  tape: {kind: replay, recording: older/recording.jsonl.gz}\n"
    desk.write("inventory.yaml", (desk.folder / "inventory.yaml").read_text() + tape)
    for verb, said in {
        ("deploy", "push", "nothing"): "there is no nothing; give the folder that `pipeline pull` wrote",
        ("deploy", "push", "older"): "it holds no manifest.json",
        ("deploy", "push", "net", "--device", "tape"): "tape is a recording, on which nothing can be deployed",
        ("deploy", "rollback"): "there is no version to go back to",
        ("sign", "net"): "there is no key 'default'; known: none",
        ("verify", "net", "--key", "lab"): "there is no key 'lab'",
    }.items():
        assert said in desk.do(*verb).error, verb
