"""Several boards at once, by `group:NAME`: each comes to what it comes to, and one that is gone holds up no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import INVENTORY, Desk
from tests.deployments import bundle

GONE = "{host: 127.0.0.1, ssh: {port: 1, known_hosts: none, retries: 0, connect_timeout_s: 1}}"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Two boards, which are this machine with folders of their own, one that is gone, and a bundle."""
    desk = Desk(tmp_path / "desk")
    own = [
        f"  {name}: {{kind: local, power: null, agent: {{dir: {desk.folder}/{name}/agent}}, "
        f"deploy: {{dir: {desk.folder}/{name}/board}}}}"
        for name in ("one", "two")
    ]
    groups = "groups: {pair: {devices: [one, two]}, lab: {devices: [one, gone, two]}, empty: {devices: []}}"
    desk.write("inventory.yaml", "\n".join([*INVENTORY.rstrip().splitlines()[:-1], *own, f"  gone: {GONE}", groups]))
    bundle(desk.folder / "net", 1)
    return desk


def test_boards_are_checked_side_by_side_and_the_one_that_is_gone_is_named_with_its_fix(desk: Desk) -> None:
    done = desk.do("devices", "check", "group:lab")
    assert done.code == 1
    rows = [line for line in done.out.splitlines() if re.match(r"(one|two) +[✓!] \d+", line)]
    assert len(rows) == 2
    assert re.search(r"^gone +✗ 1 of 1 +connection", done.out, re.M)
    assert re.search(r"^✗ gone, connection: ", done.out, re.M)
    found = desk.do("devices", "check", "group:lab", "--json").json
    assert [one["name"] for one in found] == ["one", "gone", "two"]
    assert [all(f["ok"] is not False for f in one["findings"]) for one in found] == [True, False, True]
    assert desk.done("devices", "check", "group:pair").out


def test_devices_list_live_asks_all_of_them(desk: Desk) -> None:
    done = desk.do("devices", "list", "--live", "--json")
    assert done.code == 1
    asked = {one["name"]: one for one in done.json}
    assert asked["one"]["python"]
    assert asked["one"]["problem"] is None
    assert "onnxruntime" in asked["two"]["runtimes"]
    assert "connection refused" in asked["gone"]["problem"]
    shown = desk.do("devices", "list", "--live").out
    assert re.search(r"^ *one +✓ .* nobody *$", shown, re.M)
    assert re.search(r"^ *gone +✗", shown, re.M)


def test_setup_prints_a_script_for_each_board_that_lacks_something(desk: Desk) -> None:
    found = desk.do("devices", "setup", "group:lab", "--json").json
    assert [one["name"] for one in found] == ["one", "gone", "two"]
    assert found[1]["problem"]
    done = desk.do("devices", "setup", "group:lab")
    assert done.code == 1
    assert "✗ gone: " in done.err


def test_a_bundle_is_deployed_on_a_group_shown_and_undone(desk: Desk) -> None:
    pushed = desk.do("deploy", "push", "net", "--device", "group:lab", "--no-measure", "--json")
    assert pushed.code == 1
    assert [one["error"] is None for one in pushed.json] == [True, False, True]
    assert pushed.json[0]["current"]["name"][:4] == "0001"
    bundle(desk.folder / "next", 2)
    done = desk.done("deploy", "push", "next", "--device", "group:pair", "--no-measure")
    assert len(re.findall(r"^(?:one|two) +\S.* not measured +[\d,]+ B +nobody *$", done.out, re.M)) == 2
    listed = desk.do("deploy", "status", "--device", "group:lab", "--json").json
    assert [one.get("current", {}).get("name", "")[:4] for one in listed] == ["0002", "", "0002"]
    assert desk.done("deploy", "rollback", "--device", "group:pair").out.count("0001") == 2
    failed = desk.do("deploy", "rollback", "--device", "group:lab")
    assert (failed.code, "connection refused" in failed.err) == (1, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("group:pare", "no group 'pare' (did you mean 'pair'?); the groups are: pair, lab, empty"),
        ("group:empty", "group 'empty' has no devices"),
    ],
)
def test_a_group_that_is_none_is_said_in_a_sentence(desk: Desk, name: str, said: str) -> None:
    for verb in (("devices", "check", name), ("deploy", "push", "net", "--device", name)):
        done = desk.do(*verb)
        assert (done.code, said in done.error) == (2, True), verb
