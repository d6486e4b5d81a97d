"""Bad input by the real command line: one line that says what to do, exit code 2, and nothing left behind."""

from __future__ import annotations

import io
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from pipeline.store import Store
from tests.command_line import PATIENCE_S, Desk, agents, eventually


@pytest.fixture
def refuse(desk: Desk) -> Iterator[Desk]:
    """A folder in which a test's command leaves no run behind."""
    yield desk
    assert not desk.runs.exists()


def run(desk: Desk, *arguments: str) -> str:
    """Run with options that are wrong; return the error's line."""
    done = desk.do("run", "--config", "run.yaml", *arguments)
    assert (done.code, done.out) == (2, "")
    return done.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "locl"), "no device 'locl' (did you mean 'local'?)"),
        (("--trials", "0"), "--trials: should be greater than or equal to 1, found 0"),
        (("--epochs", "-1"), "--epochs: should be a finite number from 0 on, or auto, found -1"),
        (("--budget", "2 days"), "--budget: should be a duration, such as 90s, 30m, 2h or 1h30m, found 2 days"),
        (("--epochs", "nan"), "--epochs: should be a finite number from 0 on, or auto, found nan"),
        (("--target", "latncy=1ms"), "unknown metric (did you mean 'latency'?)"),
        (("--target", "latency=fast"), "expected for example latency=0.5x or latency=20ms"),
        (("--target", "latency=0.5x", "--target", "latency=2ms"), "two targets for latency"),
        (("--inventory", "nowhere.yaml"), "no such inventory: nowhere.yaml"),
        (("--resume", "nope"), "uses the settings of the original run"),
    ],
)
def test_a_mistyped_option_is_told_at_once(refuse: Desk, arguments: tuple[str, ...], said: str) -> None:
    assert said in run(refuse, *arguments)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("run.yaml", "trials: [1\n", "run.yaml:2:1: not YAML"),
        ("run.yaml", "trials: 3\nstratgy: dqn\n", "run.yaml:2: stratgy: unknown key (did you mean 'strategy'?)"),
        ("run.yaml", "reward: {lattency: 1}\n", "run.yaml:1: reward.lattency: unknown key (did you mean 'latency'?)"),
        ("run.yaml", "fine_tuning: {epochs: .inf}\n", "run.yaml:1: fine_tuning.epochs: should be a finite number"),
        ("inventory.yaml", "devices: {\n", "inventory.yaml:2:1: not YAML"),
        ("inventory.yaml", "devices:\n  local:\n    knd: local\n", "inventory.yaml:3: devices.local.knd: unknown key"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(refuse: Desk, file: str, text: str, said: str) -> None:
    refuse.write(file, text)
    assert said in run(refuse)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "dqm"}, "no 'dqm' among the strategies (did you mean 'dqn'?)"),
        pytest.param(
            {"criterion": "taylr"}, "no 'taylr' among the criteria (did you mean 'taylor'?)", marks=pytest.mark.slow
        ),
        ({"model": "net.py:Branching"}, "Branching cannot be traced"),
        ({"model": "net.py:Maps"}, "Maps must return one tensor of class scores, (N, classes)"),
        pytest.param(
            {"model": "net.py:OneTooMany", "weights": "null"},
            "has 10 classes, so expected is (8, 10)",
            marks=pytest.mark.slow,
        ),
        (
            {"model": "net.py:OnlyLinear", "weights": "null"},
            "nothing in this model can be pruned (fc: it makes the output)",
        ),
        pytest.param({"weights": "gone.pt"}, "no weights file gone.pt", marks=pytest.mark.slow),
        ({"weights": "misfit.pt"}, "weights file misfit.pt does not fit the network"),
        ({"target": "power=3W"}, "target power=3W: local has no power sensor that can be read"),
        pytest.param(
            {"reward": "{layers: {blok.conv1: {alpha: 2}}}"},
            "no group 'blok.conv1' (did you mean 'block.conv1'?)",
            marks=pytest.mark.slow,
        ),
        ({"data": "imagefolder:one"}, "one holds one class, 'cat'; at least 2 classes are needed"),
        ({"data": "imagefolder:broken"}, "bad.png"),
    ],
    ids=lambda value: next(iter(value.items()))[1] if isinstance(value, dict) else None,
)
def test_what_does_not_fit_is_told_before_a_run_is_made(refuse: Desk, settings: dict[str, str], said: str) -> None:
    torch.save({"stem.weight": torch.zeros(3)}, refuse.folder / "misfit.pt")
    _images(refuse.folder / "one", ["cat"])
    _images(refuse.folder / "broken", ["cat", "dog"])
    (refuse.folder / "broken" / "dog" / "bad.png").write_bytes(b"no image")
    refuse.settings(**settings)
    assert said in run(refuse)


def _images(folder: Path, classes: list[str]) -> None:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(30):
            pixels = np.full((16, 16, 3), 40 * number + i, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_a_runs_folder_that_cannot_be_written_is_told_before_anything_is_loaded(desk: Desk) -> None:
    desk.write("taken", "a file")
    desk.settings(data="imagefolder:nowhere")
    for verb in (("run",), ("tune", "--search", "reward.alpha=1,2")):
        for place in ("taken", "taken/runs", "/proc/runs", "x" * 300):
            done = desk.do(*verb, "--config", "run.yaml", "--runs", place)
            assert (done.code, "Load torch" in done.err) == (2, False)
            assert place in done.error


def test_a_target_out_of_reach_is_told_with_how_near_it_gets_as_measured(desk: Desk) -> None:
    error = run(desk, "--target", "latency=0.01x")
    assert "target latency=0.01x cannot be met" in error
    assert "x of the base model's latency (" in error
    (listed,) = desk.done("runs", "list", "--json").json
    assert listed["status"] == "failed"
    assert "cannot be met" in desk.done("runs", "show", "latest").out


def test_an_unknown_run_is_told_with_the_nearest(ran: Desk) -> None:
    for verb in (("runs", "show", "nope"), ("run", "--resume", "nope"), ("pull", "nope", "--output", "o")):
        refused = ran.do(*verb)
        assert refused.code == 2
        assert "there is no run 'nope' in runs" in refused.error


def test_a_finished_run_is_not_resumed(ran: Desk) -> None:
    refused = ran.do("run", "--resume", "latest")
    assert refused.code == 2
    assert "is finished; `pipeline pull" in refused.error


def test_a_run_that_another_process_writes_is_not_resumed(ran: Desk, tmp_path: Path) -> None:
    shutil.copytree(ran.runs, tmp_path / "runs")
    name = next((tmp_path / "runs").iterdir()).name
    with Store.open(tmp_path / "runs", name, write=True):
        refused = ran.do("run", "--resume", name, "--runs", str(tmp_path / "runs"))
    assert refused.code == 2
    assert "is being written by process" in refused.error


def test_pull_refuses_a_folder_that_holds_something(ran: Desk, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    refused = ran.do("pull", "latest", "--output", str(tmp_path))
    assert refused.code == 2
    assert "is not an empty folder" in refused.error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_pull_of_an_unknown_artifact_names_those_there_are(ran: Desk, tmp_path: Path) -> None:
    refused = ran.do("pull", "latest", "--artifact", "nonsense", "--output", str(tmp_path / "o"))
    assert refused.code == 2
    assert "has no artifact 'nonsense'; it has: r1t" in refused.error
    assert not (tmp_path / "o").exists()


def test_pull_before_there_is_an_artifact_says_how_to_go_on(desk: Desk) -> None:
    with Store.create(desk.runs, label="digits-local") as store:
        name = store.id
    refused = desk.do("pull", "latest", "--output", "o")
    assert refused.code == 2
    assert "(interrupted) has no artifact 'best'; it has none yet" in refused.error
    assert f"pipeline run --resume {name}" in refused.error


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory; give the path of a model file"), (b"no model", "is not a valid ONNX file")],
)
def test_profile_of_no_onnx_file_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    desk = Desk(tmp_path)
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    refused = desk.do("profile", "model.onnx")
    assert refused.code == 2
    assert said in refused.error


def test_profile_of_a_file_too_new_for_the_device_says_what_it_loads(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    buffer = io.BytesIO()
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])], [value("y", onnx.TensorProto.FLOAT, [1, 4])],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), buffer)
    (tmp_path / "new.onnx").write_bytes(buffer.getvalue())
    desk.write("inventory.yaml", "version: 1\ndevices: {local: {kind: local, power: null, onnx: {max_opset: 13}}}\n")
    refused = desk.do("profile", "new.onnx")
    assert refused.code == 2
    assert "the device's runtime loads up to opset 13" in refused.error


def test_a_reader_that_goes_away_causes_no_traceback(ran: Desk) -> None:
    shown = ran.start_cold("runs", "show", "latest", "--json")
    assert shown.stdout is not None
    shown.stdout.close()
    assert shown.stderr is not None
    assert "Traceback" not in shown.stderr.read()
    assert shown.wait(PATIENCE_S) != 0
    shown.stderr.close()


def test_an_unknown_option_ends_with_two(tmp_path: Path) -> None:
    assert Desk(tmp_path).do("run", "--trails", "3").code == 2


def test_a_failed_start_on_a_device_leaves_no_run(refuse: Desk) -> None:
    refuse.write("inventory.yaml", "version: 1\ndevices: {local: {kind: local, agent: {python: /no/python}}}\n")
    done = refuse.do("run", "--config", "run.yaml")
    assert done.code == 1
    assert "cannot run /no/python" in done.error


def test_an_interrupted_profile_ends_quietly(ran: Desk) -> None:
    ran.done("pull", "latest", "--output", "profiled")
    ran.write(
        "slow.yaml",
        "version: 1\ndevices: {local: {kind: local, measure: {min_s: 2000, max_s: 3000, timeout_s: 4000}}}\n",
    )
    profile = ran.start_cold("profile", "profiled/model.onnx", "--inventory", "slow.yaml")
    assert eventually(lambda: bool(agents(profile, at="worker")), PATIENCE_S)  # it measures
    profile.send_signal(signal.SIGINT)
    assert profile.wait(PATIENCE_S) == 130
    assert profile.stderr is not None
    assert "Traceback" not in profile.stderr.read()
    for stream in (profile.stdout, profile.stderr):
        assert stream is not None
        stream.close()


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured_or_cut(ran: Desk, tmp_path: Path) -> None:
    ran.done("pull", "latest", "--output", str(tmp_path / "pulled"))
    (tmp_path / "taken").write_text("a file")
    place = str(tmp_path / "taken" / "below")
    for verb in (
        ("apply", str(tmp_path / "pulled"), "--weights", "net.pt", "--output", place),
        ("profile", str(tmp_path / "pulled" / "model.onnx"), "--record", f"{place}/recording"),
    ):
        refused = ran.do(*verb)
        assert refused.code == 2
        assert "taken" in refused.error


def test_the_report_of_a_run_that_was_killed_before_it_was_written_is_written_when_it_is_resumed(
    ran: Desk, tmp_path: Path
) -> None:
    shutil.copytree(ran.runs, tmp_path / "runs")
    (report,) = (tmp_path / "runs").glob("*/report.html")
    report.unlink()
    refused = ran.do("run", "--resume", "latest", "--runs", str(tmp_path / "runs"))
    assert "is finished" in refused.error
    assert "report.html, which was missing" in refused.err
    assert "</html>" in report.read_text()
