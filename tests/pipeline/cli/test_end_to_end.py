"""Whole runs with settings of their own: rounds, targets, weights of a layer, a board behind sshd, small skeletons."""

from __future__ import annotations

import getpass
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.command_line import Desk, finished, read_until
from tests.conftest import Sshd


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def chosen(run: dict[str, Any]) -> dict[str, Any]:
    (artifact,) = [a for a in run["artifacts"] if a["chosen"]]
    return dict(artifact)


def pulled(desk: Desk, artifact: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Pull an artifact; return its manifest and the shape of its every convolution."""
    import onnx

    folder = desk.folder / f"pulled-{artifact}"
    desk.done("pull", "latest", "--artifact", artifact, "--output", str(folder))
    graph = onnx.load(folder / "model.onnx").graph
    tensors = {t.name: tuple(t.dims) for t in graph.initializer}
    shapes = {node.name or node.output[0]: tensors[node.input[1]] for node in graph.node if node.op_type == "Conv"}
    return json.loads((folder / "manifest.json").read_text()), shapes


def widths(manifest: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(group["name"], group["channels"], group["kept"]) for group in manifest["plan"]["groups"]]


@pytest.mark.slow
def test_two_rounds_are_resumed_in_the_second_and_each_artifact_is_described_by_its_own_round(desk: Desk) -> None:
    desk.thoroughly(channel_step=8)
    desk.settings(trials="3", rounds="2", target="latency=0.95x size=0.3x")  # a size is the same on a busy machine
    run = desk.start("run", "--config", "run.yaml")
    read_until(run, "trial 4:")
    run.send_signal(signal.SIGKILL)
    finished(run)
    before = shown(desk)
    resumed = desk.done("run", "--resume", "latest")
    assert "round 1 of 2" not in resumed.err  # it was finished
    after = shown(desk)
    assert after["trials"][: len(before["trials"])] == before["trials"]
    assert [(t["index"], t["round"]) for t in after["trials"]] == [(i, 1 + i // 3) for i in range(6)]

    best = chosen(after)
    assert best["round"] == 2
    (first,) = [a for a in after["artifacts"] if a["round"] == 1 and a["id"].endswith("-full")]
    base = after["base"]["size_bytes"]
    for artifact, way in ((first, 0.5), (best, 1.0)):
        assert artifact["after"]["measurement"]["ratio"]["value"] <= 0.95**way
        assert artifact["after"]["size_bytes"] <= 0.3**way * base
    assert best["after"]["size_bytes"] <= first["after"]["size_bytes"]  # the first one may meet it already
    of_first, shapes_of_first = pulled(desk, first["id"])
    of_best, shapes_of_best = pulled(desk, "best")
    left = {name: kept for name, _, kept in widths(of_first)}
    assert [channels for _, channels, _ in widths(of_first)] == [32, 32, 32]
    for name, channels, _ in widths(of_best):
        assert channels == left[name]  # the second round cuts what the first one left
    for manifest, shapes in ((of_first, shapes_of_first), (of_best, shapes_of_best)):
        outputs = [shape[0] for shape in shapes.values()]
        kept = [kept for _, _, kept in widths(manifest) if kept]
        assert set(kept) <= set(outputs)


@pytest.mark.slow
def test_targets_in_milliseconds_and_bytes_are_both_met_and_layers_have_weights_of_their_own(desk: Desk) -> None:
    reward = "{alpha: 1.0, layers: {block.conv1: {alpha: 3.0, gamma: 0.0, lambda: 0.1}}}"
    desk.settings(model="net.py:Pair", reward=reward, trials="3", target="latency=20ms size=60kB")
    done = desk.done("run", "--config", "run.yaml")
    assert "only the class scores are kept, not output[1], 10 an image" in done.err
    run = shown(desk)
    best = chosen(run)["after"]
    assert best["measurement"]["p50_ms"]["value"] <= 20
    assert best["size_bytes"] <= 60_000
    for trial in run["trials"]:
        assert trial["feasible"] == (trial["candidate"]["size_bytes"] <= 60_000)
        change = trial["candidate"]["accuracy"] / run["base"]["search_accuracy"] - 1
        if not any(trial["plan"]["levels"][::2]):  # the layer alone is cut; α's mean over groups is (1 + 3 + 1) / 3
            assert trial["terms"]["accuracy"] == pytest.approx(5 / 3 + 3.0 * change)
        assert (trial["terms"]["level"] < 0) == (trial["plan"]["levels"][1] > 0)


def test_the_bundle_s_example_answers_like_the_network(ran: Desk, tmp_path: Path) -> None:
    ran.done("pull", "latest", "--output", str(tmp_path / "b"))
    session = onnxruntime.InferenceSession(tmp_path / "b" / "model.onnx", providers=["CPUExecutionProvider"])
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    shape = [1, *manifest["input"]["shape"]]
    scores = session.run(None, {manifest["input"]["name"]: np.zeros(shape, np.float32)})[0]
    assert scores.shape == (1, len(manifest["classes"]))


@pytest.mark.slow
def test_without_a_target_every_candidate_may_win_and_a_search_sends_a_hundredth_of_the_files_at_most(
    desk: Desk,
) -> None:
    folder = desk.folder / "photos"
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    desk.settings(
        model="resnet20", weights="null", data="imagefolder:photos", image_size="32", trials="3", strategy="random",
        base_training="{epochs: 0.5}", target="[]", pruning="{protect: [conv1, 'layer[12].*', 'layer3.[01].*']}",
    )  # fmt: skip
    done = desk.done("run", "--config", "run.yaml")
    assert "no target" in done.err
    trials = shown(desk)["trials"]
    assert all(trial["feasible"] for trial in trials)
    sent = sum(trial["measurement"]["bytes_sent"] for trial in trials)
    whole = sum(trial["candidate"]["size_bytes"] for trial in trials)
    assert 0 < sent <= 0.01 * whole


# ---------------------------------------------------------------- a board behind a real sshd


@pytest.fixture
def board(desk: Desk, sshd: Sshd) -> Desk:
    """A folder whose inventory has a board behind sshd that nobody has trusted so far."""
    sshd.known_hosts.unlink()
    desk.write(
        "inventory.yaml",
        f"""
version: 1
devices:
  board:
    kind: linux
    host: 127.0.0.1
    ssh:
      user: {getpass.getuser()}
      port: {sshd.port}
      identity_file: {sshd.identity}
      known_hosts: {desk.folder / "known_hosts"}
      retries: 0
    agent: {{dir: {desk.folder / "agent"}, python: {sys.executable}}}
    channel_step: 16
    measure: {{warmup_s: 0.02, min_s: 0.05, max_s: 0.4, block_s: 0.01, ci_rel: 0.2, processes: 1,
              max_background_cores: 64}}
""",
    )
    return desk


@pytest.mark.slow
@pytest.mark.sshd
def test_a_board_is_trusted_checked_and_used(board: Desk, sshd: Sshd) -> None:
    refused = board.do("run", "--device", "board", "--config", "run.yaml")
    assert refused.code == 1
    assert "pipeline devices trust board" in refused.error
    assert not board.runs.exists()
    checked = board.do("devices", "check", "board")
    assert checked.code == 1
    assert re.search(r"✗ host key", checked.out)

    (stored,) = board.done("devices", "trust", "board", "--fingerprint", sshd.fingerprint, "--json").json
    assert (stored["fingerprint"], stored["stored"]) == (sshd.fingerprint, True)
    findings = board.done("devices", "check", "board", "--json").json
    assert all(finding["ok"] for finding in findings)

    board.settings(fine_tuning="{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 20}")
    board.done("run", "--device", "board", "--config", "run.yaml", "--trials", "3", "--target", "size=0.95x")
    run = shown(board)
    assert run["device"]["name"] == "board"
    assert all(trial["measurement"]["bytes_sent"] > 0 for trial in run["trials"] if not trial["cached"])
    other = board.do("run", "--resume", "latest", "--device", "local")
    assert other.code == 2


@pytest.mark.sshd
def test_trust_stores_nothing_but_the_key_that_was_expected(board: Desk, sshd: Sshd) -> None:
    store = board.folder / "known_hosts"
    wrong = board.do("devices", "trust", "board", "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.code == 1
    assert sshd.fingerprint in wrong.error
    assert "nothing was stored" in wrong.error
    silent = board.do("devices", "trust", "board")  # nobody there to answer the question
    assert silent.code == 1
    assert "--fingerprint" in silent.err
    assert not store.exists()

    board.done("devices", "trust", "board", "--yes")
    again = board.done("devices", "trust", "board", "--yes", "--json").json
    assert again[0]["stored"] is False
    assert board.do("devices", "trust", "board", "--fingerprint", "SHA256:" + "A" * 43).code == 1


@pytest.mark.sshd
def test_a_changed_host_key_is_replaced_only_when_asked(board: Desk, sshd: Sshd) -> None:
    board.done("devices", "trust", "board", "--fingerprint", sshd.fingerprint)
    old, new = sshd.fingerprint, sshd.change_host_key()
    refused = board.do("devices", "trust", "board", "--fingerprint", new)
    assert refused.code == 1
    assert old in refused.error
    assert new in refused.error
    assert "--replace" in refused.error
    board.done("devices", "trust", "board", "--fingerprint", new, "--replace")
    assert board.done("devices", "check", "board", "--json").json[1]["ok"] is True


def test_trust_of_this_machine_is_refused(desk: Desk) -> None:
    refused = desk.do("devices", "trust", "local")
    assert refused.code == 2
    assert "local is this machine: there is no host key to trust" in refused.error


@pytest.mark.slow
def test_a_first_look_ends_with_the_bundle_and_its_example_at_work(desk: Desk) -> None:
    done = desk.done("run", "--config", "run.yaml", "--quick", "--output", "mine")
    assert (desk.folder / "mine" / "manifest.json").is_file()
    assert re.search(r"try +python mine/example.py runs/.*/sample.png", done.out)
    assert re.search(r"\d+(\.\d+)? ?%", done.out.partition("try")[2])  # the likeliest classes of a real digit
    assert re.search(r"next +pipeline ", done.out)


def test_a_bundle_is_not_written_over_anything_and_resuming_takes_no_quick(desk: Desk, ran: Desk) -> None:
    (desk.folder / "full").mkdir()
    desk.write("full/mine.txt", "mine")
    refused = desk.do("run", "--config", "run.yaml", "--output", "full")
    assert refused.code == 2
    assert "full is not empty" in refused.error
    assert not desk.runs.exists()
    assert "leave the other options out" in ran.do("run", "--resume", "latest", "--quick").error
