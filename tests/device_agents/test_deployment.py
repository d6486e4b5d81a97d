"""Deployed bundles on the board: staged, tried, switched, undone; whenever it is killed, one version answers."""

import hashlib
import os
import random
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import runtime, signing
from deploy.verify import verify_bundle
from device_agents.arguments import Stage, Switch, Trust
from device_agents.deployment import Deployments
from device_agents.errors import AgentError
from device_agents.files import Files
from pipeline.errors import BundleError
from tests.deployments import CLASSES, TRAVEL, WHITE, bundle, clear, killed_before, spoil


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Three bundles that answer differently; only to be read."""
    folder = tmp_path_factory.mktemp("bundles")
    return [bundle(folder / f"bundle{best}", best) for best in range(3)]


@pytest.fixture
def board(tmp_path):
    """The folder of deployed bundles."""
    return tmp_path / "board"


def contents(folder: Path) -> dict:
    return {path.name: runtime.file_sha256(path) for path in sorted(folder.iterdir())}


def send(folder: Path, place: Path) -> Files:
    """Put a bundle's files where the agent receives them."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.copy(path, place / f"{runtime.file_sha256(path)}.bin")
    return Files(str(place))


def stage(board: Path, folder: Path, **changes) -> dict:
    there = contents(folder)
    version = there.get("manifest.json", "0" * 64)
    asked = Stage(**{"dir": str(board), "version": version, "contents": there, **changes})
    return Deployments(str(board)).stage(asked, send(folder, board.parent / "files"))


def switch(board: Path, name: str | None, **changes) -> dict:
    asked = Switch(**{"dir": str(board), "owner": "ann@host", "name": name, "deployed": "2026-12-01", **changes})
    return Deployments(str(board)).switch(asked)


def put_live(board: Path, folder: Path) -> str:
    name = stage(board, folder)["name"]
    switch(board, name)
    return str(name)


def answer(board: Path) -> int:
    """Return the class that the version that runs gives for a white image."""
    return CLASSES.index(runtime.Model.open(board / "current").predict(WHITE).label)


def refused(call, *arguments, **options) -> str:
    with pytest.raises(AgentError) as error:
        call(*arguments, **options)
    return f"{error.value.kind}: {error.value}"


# ---------------------------------------------------------------- the way of a version


def test_the_last_two_versions_stay_and_a_rollback_leads_there_and_back(board, bundles):
    names = [put_live(board, one) for one in bundles]
    assert [name[:4] for name in names] == ["0001", "0002", "0003"]
    assert sorted(os.listdir(board / "versions")) == names[1:]
    assert sorted(os.listdir(board / "about")) == [f"{name}.json" for name in names[1:]]
    assert answer(board) == 2
    back = switch(board, None)
    assert (back["current"]["name"], back["previous"]["name"], answer(board)) == (names[1], names[2], 1)
    assert (switch(board, None)["current"]["name"], answer(board)) == (names[2], 2)


def test_what_is_there_is_told(board, bundles):
    first = put_live(board, bundles[0])
    second = put_live(board, bundles[1])
    found = Deployments(str(board)).status()
    assert (found["current"]["name"], found["previous"]["name"], found["problem"]) == (second, first, None)
    assert found["current"]["by"] == "ann@host"
    assert set(contents(bundles[0]).values()) | set(contents(bundles[1]).values()) == set(found["contents"])
    assert stat.S_IMODE((board / "versions" / second).stat().st_mode) == 0o555


def test_what_a_killed_deploy_left_is_cleared_up_before_the_next_is_sent(board, bundles):
    name = put_live(board, bundles[0])
    stage(board, bundles[1])
    assert len(os.listdir(board / "versions")) == 2
    before = Deployments(str(board)).status()
    assert len(os.listdir(board / "versions")) == 2
    after = Deployments(str(board)).status(tidy=True)
    assert os.listdir(board / "versions") == [name]
    assert before["current"] == after["current"]


def test_only_what_is_not_there_has_to_be_sent(board, bundles):
    put_live(board, bundles[0])
    there = set(Deployments(str(board)).status()["contents"])
    shutil.rmtree(board.parent / "files")
    files = board.parent / "files"
    files.mkdir(mode=0o700)
    for path in bundles[1].iterdir():
        if runtime.file_sha256(path) not in there:
            shutil.copy(path, files / f"{runtime.file_sha256(path)}.bin")
    version = runtime.file_sha256(bundles[1] / "manifest.json")
    asked = Stage(dir=str(board), version=version, contents=contents(bundles[1]))
    name = Deployments(str(board)).stage(asked, Files(str(files)))["name"]
    switch(board, name)
    assert answer(board) == 1
    assert list(files.iterdir()) == []


def test_the_same_bundle_again_is_no_new_version(board, bundles):
    name = put_live(board, bundles[0])
    assert put_live(board, bundles[0]) == name
    assert os.listdir(board / "versions") == [name]


def test_a_version_that_is_damaged_is_told_and_not_gone_back_to(board, bundles):
    first = put_live(board, bundles[0])
    put_live(board, bundles[1])
    (board / "versions" / first / "labels.txt").write_text("others\n")
    assert refused(switch, board, None) == f"refused: version {first} is damaged: labels.txt differs"
    assert answer(board) == 1


def test_with_nothing_to_go_back_to_it_is_said(board, bundles):
    assert refused(switch, board, None) == "refused: there is no version to go back to"
    put_live(board, bundles[0])
    assert refused(switch, board, None) == "refused: there is no version to go back to"


def test_what_is_missing_or_spoilt_is_not_staged(board, bundles, tmp_path):
    put_live(board, bundles[0])
    other = contents(bundles[1])
    assert "corrupt: file" in refused(stage, board, bundles[1], contents={**other, "labels.txt": "0" * 64})
    less = {name: sha256 for name, sha256 in other.items() if name != "labels.txt"}
    assert "labels.txt is missing" in refused(stage, board, bundles[1], contents=less)
    assert "is no file's name" in refused(stage, board, bundles[1], contents={"../x": other["labels.txt"]})
    assert "not the one that was announced" in refused(stage, board, bundles[1], version="0" * 64)
    folder = Path(shutil.copytree(bundles[1], tmp_path / "spoilt"))
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    assert "labels.txt differs" in refused(stage, board, folder)
    assert [name for name in os.listdir(board / "versions") if name.startswith(".")] == []
    assert answer(board) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_spoilt_bundle_is_refused_by_the_board_alone(board, bundles, tmp_path, seed):
    """A host that did not look sends what it has; modes and links do not travel.

    Of model.sig, what is signed and by whom counts: the host alone refuses a changed byte that says nothing.
    """
    folder = Path(shutil.copytree(bundles[1], tmp_path / "spoilt"))
    signing.new_key()
    signing.sign(folder)
    Deployments(str(board)).trust(Trust(dir=str(board), pem=signing.public_key("default").pem.decode()))
    name = spoil(folder, random.Random(seed), TRAVEL)
    if name == "model.sig" and (folder / name).exists():
        with pytest.raises(BundleError, match=r"model\.sig"):
            verify_bundle(folder, run=False)
    else:
        assert "refused: " in refused(stage, board, folder)


# ---------------------------------------------------------------- signatures


def test_with_a_trusted_key_only_bundles_signed_by_it_are_taken(board, bundles, tmp_path):
    key, _ = signing.new_key(), signing.new_key("other")
    trusted = Deployments(str(board)).trust(Trust(dir=str(board), pem=key.pem.decode()))["trusted"]
    assert trusted == [key.pem.decode()]
    assert "the bundle is unsigned" in refused(stage, board, bundles[0])
    mine = Path(shutil.copytree(bundles[0], tmp_path / "mine"))
    signing.sign(mine)
    found = stage(board, mine)
    assert (found["signature"], found["key"]) == ("valid", key.id)
    assert switch(board, found["name"])["current"]["checked"] == "board"
    theirs = Path(shutil.copytree(bundles[1], tmp_path / "theirs"))
    signing.sign(theirs, "other")
    assert "which this board does not trust" in refused(stage, board, theirs)
    Deployments(str(board)).trust(Trust(dir=str(board), pem=key.pem.decode(), forget=True))
    assert stage(board, bundles[1])["signature"] == "unsigned"


def test_where_there_is_no_openssl_the_host_has_to_vouch(board, bundles, tmp_path, monkeypatch):
    key = signing.new_key()
    Deployments(str(board)).trust(Trust(dir=str(board), pem=key.pem.decode()))
    mine = Path(shutil.copytree(bundles[0], tmp_path / "mine"))
    signing.sign(mine)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = stage(board, mine)
    assert found["signature"] == "unchecked"
    assert "nobody has checked the signature" in refused(switch, board, found["name"])
    assert switch(board, found["name"], vouched=True)["current"]["checked"] == "host"


def test_a_signature_of_other_files_is_refused_on_the_board(board, bundles, tmp_path):
    key = signing.new_key()
    Deployments(str(board)).trust(Trust(dir=str(board), pem=key.pem.decode()))
    one, other = (Path(shutil.copytree(bundles[best], tmp_path / str(best))) for best in (0, 1))
    for folder in (one, other):
        signing.sign(folder)
    shutil.copy(one / "model.sig", other / "model.sig")
    assert "it does not list" in refused(stage, board, other)
    (other / "model.sig").write_text((other / "model.sig").read_text().replace('"sig":"M', '"sig":"N'))
    assert "model.sig is not the signature of these files" in refused(stage, board, other)


# ---------------------------------------------------------------- kills


def test_a_kill_before_any_system_call_leaves_the_old_or_the_new_version_answering(board, bundles, tmp_path):
    """And the next deploy goes through as if nothing had been."""
    put_live(board, bundles[2])
    put_live(board, bundles[0])
    start = Path(shutil.copytree(board, tmp_path / "start", symlinks=True))
    files = send(bundles[1], tmp_path / "files")
    sent = Path(shutil.copytree(tmp_path / "files", tmp_path / "sent"))
    seen = {0: 0, 1: 0}
    for call in range(500):
        for old, new in ((start, board), (sent, tmp_path / "files")):
            clear(new)
            shutil.copytree(old, new, symlinks=True)
        killed = killed_before(call, lambda: _deploy(board, bundles[1], files))
        seen[answer(board)] += 1
        if not killed:
            break
        send(bundles[2], tmp_path / "files")
        put_live(board, bundles[2])
        assert answer(board) == 2
        assert len(os.listdir(board / "versions")) == 2
        switch(board, None)
        assert answer(board) in (0, 1)
    assert not killed
    assert seen[0] > 30
    assert seen[1] > 5


def _deploy(board: Path, folder: Path, files: Files) -> None:
    asked = Stage(dir=str(board), version=runtime.file_sha256(folder / "manifest.json"), contents=contents(folder))
    switch(board, Deployments(str(board)).stage(asked, files)["name"])


# ---------------------------------------------------------------- the agent, under each Python


def test_the_agent_deploys_under_each_python(agent, bundles, tmp_path):
    board, files = tmp_path / "board", tmp_path / "files"
    empty = agent.result("deployment", dir=str(board))
    assert (empty["current"], empty["previous"], empty["contents"], empty["trusted"]) == (None, None, [], [])
    assert not board.exists()
    key = signing.new_key()
    agent.result("trust", dir=str(board), pem=key.pem.decode())
    names = []
    for folder in bundles[:2]:
        mine = Path(shutil.copytree(folder, tmp_path / folder.name))
        signing.sign(mine)
        send(mine, files)
        version = runtime.file_sha256(mine / "manifest.json")
        staged = agent.result("stage", dir=str(board), version=version, contents=contents(mine))
        assert staged["signature"] == "valid"
        agent.result("switch", dir=str(board), name=staged["name"], owner="ann@host")
        names.append(staged["name"])
    assert answer(board) == 1
    offered = agent.result("offer", dir=str(board))["file"]
    assert offered == f"{runtime.file_sha256(bundles[1] / 'model.onnx')}.onnx"
    assert hashlib.sha256((files / offered).read_bytes()).hexdigest() == offered.partition(".")[0]
    back = agent.result("switch", dir=str(board), name=None, owner="ann@host")
    assert (back["current"]["name"], back["previous"]["name"], answer(board)) == (names[0], names[1], 0)


def test_the_agent_runs_the_stored_inputs(start, bundles, tmp_path):
    board, agent = tmp_path / "board", start(sys.executable)
    send(bundles[0], tmp_path / "files")
    version = runtime.file_sha256(bundles[0] / "manifest.json")
    name = agent.result("stage", dir=str(board), version=version, contents=contents(bundles[0]))["name"]
    found = agent.result("self_test", dir=str(board), staged=name)
    assert (found["file"], found["inputs"], found["ok"]) == ("model.onnx", 4, True)
    assert found["difference"] == pytest.approx(0, abs=1e-6)
    said = agent.error("self_test", dir=str(board), staged=name, runtime="tensorrt")
    assert (said["kind"], "tensorrt" in said["message"]) == ("refused", True)
    assert np.load(bundles[0] / "test_inputs.npy").dtype == np.uint8


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("stage", {"version": "x", "contents": {}}, "expected a sha256"),
        ("stage", {"version": "0" * 64}, "argument 'contents' is missing"),
        ("trust", {"pem": "-----BEGIN PUBLIC KEY-----\n$(reboot)"}, "expected a public key in PEM"),
        ("switch", {"owner": "ann", "name": "../../etc"}, "there is no version '../../etc' any more"),
        ("self_test", {"staged": "0001-000000000000"}, "there is no version '0001-000000000000' any more"),
    ],
)
def test_requests_that_make_no_sense_are_refused(start, tmp_path, verb, arguments, said):
    assert said in start().error(verb, dir=str(tmp_path / "board"), **arguments)["message"]
