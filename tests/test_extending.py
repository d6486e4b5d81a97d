"""Each kind of extension is one file: the documents' examples, as they stand there, in a folder of the user's own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline import plugins
from pipeline.data import load_data
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import ConfigError
from pipeline.objective.load import load_task
from pipeline.records import Device
from pipeline.run.inputs import CRITERIA
from pipeline.search.strategy_plugin import STRATEGIES
from pipeline.store import Store
from pipeline.store.facts import CODE, TRAINER
from tests.command_line import Desk
from tests.recordings import QUICK, dense

OWN = "format: half_weights.py"
"""What an inventory says of a device whose files are in the format of the page's example."""
PAGES = Path(__file__).parents[1] / "docs/extending"


def example(page: str, language: str, number: int = 0) -> str:
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)[number]


def weights_of(model: Path) -> set[int]:
    """Return the types of a file's numbers, but for its shapes."""
    types = {tensor.data_type for tensor in onnx.load(model).graph.initializer}
    return types - {onnx.TensorProto.INT64}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.slow
def test_a_strategy_and_a_criterion_of_ones_own_search_and_rank(desk: Desk) -> None:
    desk.write("hill_climbing.py", example("strategy.md", "python"))
    desk.write("weight_spread.py", example("criterion.md", "python"))
    quick = {"weights": "null", "trials": "3", "base_training": "{epochs: 0.5}", "target": "size=0.95x"}
    (own,) = example("strategy.md", "yaml").splitlines()[2:]
    desk.settings(**quick, strategy="hill_climbing.py", strategy_options=own.partition(": ")[2])
    ran = desk.done("run", "--config", "run.yaml", "--criterion", "weight_spread.py", "--json").json
    assert (ran["status"], len(ran["trials"])) == ("finished", 3)
    assert {trial["plan"]["criterion"] for trial in ran["trials"]} == {"weight_spread.py"}
    assert ran["config"]["strategy_options"] == {"changes": 2}
    assert any(sum(level > 0 for level in trial["plan"]["levels"]) == 2 for trial in ran["trials"])


def test_an_option_that_a_strategy_of_ones_own_has_not_ends_a_run_before_it_begins(desk: Desk) -> None:
    desk.write("hill_climbing.py", example("strategy.md", "python"))
    desk.settings(weights="null", strategy="hill_climbing.py", strategy_options="{chnages: 2}")
    refused = desk.do("run", "--config", "run.yaml")
    assert refused.code == 2
    assert "strategy_options.chnages: no such setting (did you mean 'changes'?)" in refused.error
    assert not desk.runs.exists()


def test_a_data_source_of_ones_own_is_read_and_split(tmp_path: Path) -> None:
    (tmp_path / "stripes.py").write_text(example("data-source.md", "python"))
    data = load_data(f"{tmp_path / 'stripes.py'}:600", seed=0)
    assert (data.name, data.classes, data.shape) == ("stripes", ("vertical", "horizontal"), (1, 8, 8))
    assert sum(len(part) for part in (data.train, data.search, data.val, data.test)) == 600


@pytest.fixture
def meter_port() -> Iterator[str]:
    """A serial port on which a meter prints 2.5 W, a hundred times a second."""
    meter, port = pty.openpty()
    settings = termios.tcgetattr(port)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(port, termios.TCSANOW, settings)
    os.set_blocking(meter, False)
    off = threading.Event()

    def prints() -> None:
        while not off.wait(0.01):
            with contextlib.suppress(BlockingIOError):
                os.write(meter, b"2.500\n")

    thread = threading.Thread(target=prints)
    thread.start()
    yield os.ttyname(port)
    off.set()
    thread.join()
    os.close(meter)
    os.close(port)


def of_ones_own(folder: Path, page: str, place: str, entry: str) -> Device:
    """Write a page's example where it says that it belongs, and an inventory beside that; return the device."""
    text = example(page, "python")
    assert text.startswith(f"# {place}\n")
    (folder / place).parent.mkdir(parents=True)
    (folder / place).write_text(text)
    (folder / "inventory.yaml").write_text(
        f"version: 1\ndevices:\n  here: {{kind: local, agent: {{dir: {folder}/agent}}, {entry}}}\n"
    )
    return load_inventory(folder / "inventory.yaml").device("here")


@pytest.mark.slow
def test_a_sensor_of_ones_own_measures_on_a_real_agent(tmp_path: Path, meter_port: str) -> None:
    power = f"power: {{backend: serial_meter, options: {{port: {meter_port}, interval_s: 0.01}}}}"
    device = of_ones_own(tmp_path, "sensor.md", "plugins/power/serial_meter.py", power)
    settings = replace(QUICK, block_s=0.2, min_s=0.6, max_s=2.0, idle_s=0.3)
    with open_agent(replace(device, measure=settings)) as agent:
        assert agent.facts.sensors["serial_meter"] == "ok"
        power_of = agent.measure(dense(seed=0), reference=(dense(seed=1), "onnx")).power
    assert power_of is not None
    assert (power_of.source, power_of.scope) == ("serial_meter", "board")
    assert power_of.mean_w.value == pytest.approx(2.5)


def test_a_meter_that_is_not_plugged_in_is_told_with_what_to_do(tmp_path: Path) -> None:
    power = "power: {backend: serial_meter, options: {port: /dev/nonesuch}}"
    device = of_ones_own(tmp_path, "sensor.md", "plugins/power/serial_meter.py", power)
    with open_agent(device) as agent:
        assert agent.facts.sensors["serial_meter"] == "/dev/nonesuch is missing: plug the meter in"


def test_a_runtime_of_ones_own_measures_a_candidate_on_a_real_agent(tmp_path: Path) -> None:
    device = of_ones_own(tmp_path, "runtime.md", "plugins/runtimes/reference.py", "power: null, runtime: reference")
    images = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    with open_agent(replace(device, measure=QUICK)) as agent:
        measured = agent.measure(dense(seed=0), reference=(dense(seed=1), "onnx"))
        answers = agent.verify(dense(seed=0), images)
    assert measured.runtime.startswith("reference ")
    assert measured.inferences > 0
    assert np.allclose(answers, images @ np.random.default_rng(0).standard_normal((64, 32)), atol=1e-4)


@pytest.mark.parametrize(("page", "device"), [("sensor.md", "pi4"), ("runtime.md", "pi4-numpy")])
def test_the_inventory_of_a_page_names_the_page_s_file(tmp_path: Path, page: str, device: str) -> None:
    place = tmp_path / example(page, "python").partition("\n")[0].removeprefix("# ")
    place.parent.mkdir(parents=True)
    place.write_text(example(page, "python"))
    (tmp_path / "inventory.yaml").write_text(example(page, "yaml"))
    found = load_inventory(tmp_path / "inventory.yaml").device(device)
    assert place.stem in (found.power.backend, found.runtime)


def test_a_kind_of_board_of_ones_own_gives_its_settings(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/orange-pi-5.yaml").write_text(example("board.md", "yaml"))
    (tmp_path / "inventory.yaml").write_text(example("board.md", "yaml", 1))
    device = load_inventory(tmp_path / "inventory.yaml").device("orange")
    assert (device.measure.threads, device.measure.affinity) == (4, (4, 5, 6, 7))
    assert device.fixes["runtime"] == "pip3 install --user onnxruntime"


def test_the_old_name_of_a_profile_s_fixes_still_counts(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/orange-pi-5.yaml").write_text(example("board.md", "yaml").replace("fixes:", "mends:"))
    (tmp_path / "inventory.yaml").write_text(example("board.md", "yaml", 1))
    assert "runtime" in load_inventory(tmp_path / "inventory.yaml").device("orange").fixes


@pytest.mark.slow
def test_a_trainer_of_ones_own_trains_the_chosen_network_and_may_be_fixed_while_a_run_waits(desk: Desk) -> None:
    fit = example("trainer.md", "python")
    desk.write("adamw.py", fit.replace("    return network\n", "    return None\n"))
    trainer = example("trainer.md", "yaml").rpartition("trainer: ")[2].strip()
    brief = f"{{finalists: 1, finalist_epochs: 0, trainer: '{trainer}', max_epochs: 2, verify_images: 20}}"
    desk.thoroughly().settings(
        weights="null", base_training="{epochs: 0.5}", strategy="uniform", trials="1", target="size=0.95x",
        pruning="{protect: [stem, down]}", fine_tuning=brief,
    )  # fmt: skip
    refused = desk.do("run", "--config", "run.yaml")
    assert refused.code == 2
    assert "adamw.py:fit returned nothing; return the trained network" in refused.error
    assert "to resume: pipeline run --resume" in refused.err

    desk.write("adamw.py", fit)
    done = desk.done("run", "--resume", "latest", "--json")
    assert "adamw.py:fit returned a network of the same structure, every weight finite" in done.err
    assert done.json["status"] == "finished"
    with Store.open(desk.runs, done.json["id"]) as store:
        code = store.get(TRAINER)
        assert code is not None
        assert code[str(desk.folder / "adamw.py")] == hashlib.sha256(fit.encode()).hexdigest()


@pytest.mark.slow
def test_a_model_format_of_ones_own_goes_all_the_way_to_a_bundle_that_runs(desk: Desk) -> None:
    desk.write("half_weights.py", example("format.md", "python"))
    desk.write("full.yaml", (desk.folder / "inventory.yaml").read_text())
    desk.write("inventory.yaml", (desk.folder / "full.yaml").read_text().replace("local: {", f"local: {{{OWN}, "))
    assert OWN in example("format.md", "yaml")
    desk.settings(weights="null", trials="3", base_training="{epochs: 0.5}", target="size=0.95x")
    ran = desk.done("run", "--config", "run.yaml", "--record", "--json").json
    assert [trial["failure"] for trial in ran["trials"]] == [None] * 3
    with Store.open(desk.runs, ran["id"]) as store:
        assert [Path(path).name for path in store.get(CODE) or {}] == ["half_weights.py", "net.py"]

    refused = desk.do("pull", ran["id"], "--output", "bundle", "--inventory", "full.yaml")
    assert "wrote files in the format of half_weights.py, and local has onnx in the inventory" in refused.error
    desk.done("pull", ran["id"], "--output", "bundle")
    bundle = desk.folder / "bundle"
    assert weights_of(bundle / "model.onnx") == {onnx.TensorProto.FLOAT16}
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["model"] == {"file": "model.onnx", "format": "half_weights.py", "precision": "float32"}
    answered = subprocess.run([sys.executable, bundle / "example.py"], capture_output=True, text=True, check=True)
    assert "median of 50 inferences" in answered.stdout

    tape = f"{{kind: replay, recording: runs/{ran['id']}/recording.jsonl.gz"
    desk.write("tape.yaml", f"devices:\n  mute: {tape}}}\n  tape: {tape}, {OWN}}}\n")
    unnamed = desk.do("run", "--config", "run.yaml", "--inventory", "tape.yaml", "--device", "mute")
    assert "is of files in the format of half_weights.py; name that file in the device's entry" in unnamed.error
    again = desk.done("run", "--config", "run.yaml", "--inventory", "tape.yaml", "--device", "tape", "--json").json
    assert [trial["key"] for trial in again["trials"]] == [trial["key"] for trial in ran["trials"]]


def test_a_checkpoint_is_cut_and_written_in_a_format_of_ones_own(desk: Desk) -> None:
    shutil.copytree(Path(__file__).parent / "fixtures/older", desk.folder, dirs_exist_ok=True)
    desk.write("half_weights.py", example("format.md", "python"))
    cut = ("apply", "recipe.json", "--model", "net.py:net", "--weights", "net.safetensors")
    for name, format in (("full", "onnx"), ("half", "half_weights.py")):
        desk.done(*cut, "--format", format, "--output", name)
    kinds = {"full": onnx.TensorProto.FLOAT, "half": onnx.TensorProto.FLOAT16}
    assert {name: weights_of(desk.folder / name / "model.onnx") for name in kinds} == {
        name: {kind} for name, kind in kinds.items()
    }
    refused = desk.do(*cut, "--format", "onxx", "--output", "none")
    assert "no 'onxx' among the formats (did you mean 'onnx'?)" in refused.error


def test_an_installed_package_brings_plugins_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_strategy.py").write_text(example("strategy.md", "python"))
    (tmp_path / "my_task.py").write_text(example("task.md", "python"))
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edge_pruning.strategies]\nhill-climbing = my_strategy\n[edge_pruning.tasks]\nwithin = my_task:TASK\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    plugins._installed.cache_clear()
    try:
        assert "hill_climbing" in plugins.names(STRATEGIES)
        assert plugins.load(STRATEGIES, "hill-climbing").create.__name__ == "create"
        assert load_task("within").metric_name == "within tolerance"
    finally:
        plugins._installed.cache_clear()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("DIGITS = 7\n", "has no function scores"),
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError"),
        ("def scores(:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_plugin_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        plugins.load(CRITERIA, str(tmp_path / "mine.py"))
