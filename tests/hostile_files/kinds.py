"""Each kind of file that users bring: a valid sample, how it is damaged, and who reads it."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
import yaml
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from PIL import Image
from torch import nn

from deploy.folder import MANIFEST
from deploy.runtime import SIGNATURE
from device_agents import protocol
from pipeline import serialization
from pipeline.cli.commands.calibrate import table
from pipeline.comparison.run_figures import read
from pipeline.config import load_config
from pipeline.data import load_data
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.recording import FILE_NAME, as_recorded, read_answers
from pipeline.devices.sessions.replay import ReplaySession
from pipeline.devices.stored_calibrations import FORMAT, read_file
from pipeline.measurement.calibration import Conditions
from pipeline.models.checkpoints import load_weights
from pipeline.models.onnx_import import load_onnx
from pipeline.recipes.apply import apply_recipe
from pipeline.recipes.recipe import Cut, GroupCut, Recipe, read_recipe, to_text
from pipeline.records import Device, Interval, MeasureSettings
from pipeline.report.run_json import as_json
from pipeline.run.artifact_recipe import bundle_facts, format_of
from pipeline.store import Store
from pipeline.store.database import NAME
from pipeline.store.facts import CALIBRATION, INPUT, SPACE, VERSIONS
from tests.examples import calibration, device_facts, space
from tests.hostile_files import bundles
from tests.hostile_files.mutations import changed, damaged, text_of
from tests.pipeline.comparison.stores import finished_run

TFLITE = Path(__file__).parents[1] / "pipeline" / "export" / "tflite" / "tiny.tflite"


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    sample: Callable[[], bytes]
    """A valid one."""
    hostile: Callable[[bytes], st.SearchStrategy[bytes]]
    """How a sample is damaged."""
    read: Callable[[Path], object]
    """Reads what lies in a file as the program does; raises PipelineError."""
    name: str
    """The file's."""

    def strategy(self) -> st.SearchStrategy[bytes]:
        return self.hostile(self.sample())

    def use(self, content: bytes, folder: Path) -> None:
        """Read such a file out of a folder."""
        path = folder / self.name
        path.write_bytes(content)
        self.read(path)


# ---------------------------------------------------------------- a device's calibration


def _calibration() -> bytes:
    return serialization.to_text({"format": FORMAT, "calibration": serialization.dump(calibration())}).encode()


def _calibrated(path: Path) -> object:
    """Return what the calibration says, whether it holds, and how wide it makes an interval."""
    found = read_file(path, "pi4")
    now = Conditions.of(Device(name="pi4", kind="linux"), device_facts(), MeasureSettings())
    return str(found), found.short(), found.misfit(now), table(found), found.spread.widened(Interval(1.0, 0.9, 1.1))


# ---------------------------------------------------------------- a network, its weights, its recipe


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv2(self.norm(self.conv1(x)).relu()).relu().mean((2, 3)))  # type: ignore[no-any-return]


def _net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def _recipe() -> bytes:
    groups = tuple(
        GroupCut(name=name, layers=(name,), level=50, units=8, kept=(0, 1, 4, 6)) for name in ("conv1", "conv2")
    )
    net = _net()
    recipe = Recipe(
        model="net.py:Net", classes=4, input_shape=(1, 8, 8), parameters=sum(p.numel() for p in net.parameters()),
        weights_sha256="0" * 64, cuts=(Cut(criterion="l1", step=1, groups=groups, zeros={"fc.weight": 0.5}),), seed=3,
        mean=(0.5,), std=(0.5,), versions={"torch": "2"},
    )  # fmt: skip
    return to_text(recipe).encode()


def _apply(path: Path) -> None:
    apply_recipe(_net(), read_recipe(path))


def _load(path: Path) -> None:
    load_weights(_net(), path)


def _pt() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": _net().state_dict(), "epoch": 3}, buffer)
    return buffer.getvalue()


@st.composite
def _damaged_zip(draw: st.DrawFn, sample: bytes) -> bytes:
    """Damage what lies in a zip archive, whose checksums are right again."""
    with zipfile.ZipFile(io.BytesIO(sample)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from([n for n in files if n.endswith(".pkl")] * 3 + list(files)))
    files[name] = draw(damaged(files[name]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for other, content in files.items():
            archive.writestr(other, content)
    return buffer.getvalue()


def _safetensors() -> bytes:
    return safetensors.torch.save(_net().state_dict(), {"format": "pt"})


@st.composite
def _damaged_header(draw: st.DrawFn, sample: bytes) -> bytes:
    """Change the header of a safetensors file, whose length is right again."""
    (length,) = struct.unpack("<Q", sample[:8])
    header = text_of(draw(changed(json.loads(sample[8 : 8 + length]))))
    return struct.pack("<Q", len(header)) + header + sample[8 + length :]


# ---------------------------------------------------------------- model files


def _network() -> bytes:
    """Return a network of a convolution, its batch norm, and scores."""
    one, drawn = np.ones(4, np.float32), np.random.RandomState(0)
    held = {"conv.weight": drawn.randn(4, 1, 3, 3).astype(np.float32), "one": one, "sizes": np.array([1, -1])}
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "one", "one", "one", "one"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Reshape", ["d", "sizes"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [value("x", onnx.TensorProto.FLOAT, [1, 1, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, [1, 4])], [numpy_helper.from_array(v, name) for name, v in held.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()  # type: ignore[no-any-return]


def _onnx() -> bytes:
    weights = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"], name="relu")], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 16])], [value("y", onnx.TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def _usable(path: Path) -> None:
    from pipeline.api import read_model_file

    read_model_file(path, Device(name="here", kind="local", format="tflite" if path.suffix == ".tflite" else "onnx"))


# ---------------------------------------------------------------- YAML

_INVENTORY = """
version: 1
defaults:
  measure: {warmup_s: 0.02, min_s: 0.05, max_s: 0.4, block_s: 0.01, ci_rel: 0.2, processes: 2}
  channel_step: &step 4
groups:
  lab: {devices: [pi, nano], tags: [lab]}
devices:
  local: {kind: local, power: null}
  pi: {kind: raspberry-pi-4, host: 'pi@10.0.0.4:22', channel_step: *step, ssh: {retries: 2}}
  nano:
    kind: jetson-nano
    measure: {min_s: 10, max_s: 60, block_s: 2.0}
    host: nano.lab
    modes: {nvpmodel: 0}
    lock: {wait_s: 10}
"""
_SETTINGS = """
model: net.py:Net
weights: net.pt
data: digits
target: [latency=0.5x, size=300kB]
trials: 4
mean: [0.5]
std: [0.5]
dqn: {first_simulated_episodes: 200, ablate: [mask]}
reward: {alpha: 1.5, layers: {conv1: {alpha: 2, lambda: 0.1}}}
pruning: {protect: ['layer1.*'], min_channels: {'conv*': 8}}
evaluation: {batch_norm_images: 64, search_images: 100}
fine_tuning: {finalists: 2, finalist_epochs: 0.1, sparsity: {l1: 1e-4, on: weights}}
"""


@st.composite
def _damaged_yaml(draw: st.DrawFn, sample: bytes) -> bytes:
    """Damage the text, or change a value; JSON is YAML."""
    if draw(st.booleans()):
        return draw(damaged(sample))
    return text_of(draw(changed(yaml.safe_load(sample))))


# ---------------------------------------------------------------- a table of images


def _csv() -> bytes:
    lines = [f"{label}{i}.png,{label},{split}" for i in range(6) for label, split in (("a", "train"), ("b", "train"))]
    return ("path,label,split\n" + "\n".join(lines) + "\na6.png,a,test\nb6.png,b,test\n").encode()


def _with_images(path: Path) -> None:
    for label in "ab":
        for i in range(7):
            Image.new("RGB", (8, 8), (40 * i, 0, 99)).save(path.parent / f"{label}{i}.png")


def _table(path: Path) -> None:
    if not (path.parent / "a0.png").exists():
        _with_images(path)
    load_data(f"csv:{path}")


# ---------------------------------------------------------------- recordings, runs


_HELLO = {"agent_sha256": "0" * 64, "python": "3.6", "machine": "aarch64", "cores": 4}
_MEASURED = {"candidate": f"{'1' * 64}.onnx", "reference": None, "runtime": "onnxruntime", "options": {}, "threads": 1}
_BLOCKS = [[0.001, 0.002], [0.0011, 0.0021]]


def _recording() -> bytes:
    device = serialization.dump(Device(name="pi", kind="raspberry-pi-4"))
    lines: list[Mapping[str, Any]] = [
        {"recording": 1, "device": device, "shared": False, "about": {"seed": 3}, "versions": {"pipeline": "1"}},
        {"verb": "hello", "arguments": {}, "result": _HELLO, "structures": {}},
        {"verb": "measure", "arguments": _MEASURED, "result": {"blocks": _BLOCKS},
         "structures": {f"{'1' * 64}.onnx": "2" * 64}},
        {"verb": "measure", "arguments": _MEASURED, "failure": {"kind": "refused", "message": "no"}, "structures": {}},
    ]  # fmt: skip
    return b"".join(gzip.compress(json.dumps(line).encode() + b"\n") for line in lines)


@st.composite
def _damaged_lines(draw: st.DrawFn, sample: bytes) -> bytes:
    """Damage the archive, or what a line says, or how long it is when unpacked."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(damaged(sample))
    lines = gzip.decompress(sample).splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    if kind == 1:
        lines[at] = draw(damaged(lines[at]))
    else:
        lines[at] = text_of(draw(changed(json.loads(lines[at]))))
    packed = [gzip.compress(line + b"\n") for line in lines]
    if draw(st.integers(0, 30)) == 0:
        packed.insert(at, _bomb())
    return b"".join(packed)


@cache
def _bomb() -> bytes:
    """100 MB of spaces in 100 kB."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as archive:
        for _ in range(100):
            archive.write(b" " * 1_000_000)
    return buffer.getvalue()


def _tape(path: Path) -> None:
    device = as_recorded(Device(name="tape", kind="replay", recording=str(path)))
    list(read_answers(path))
    session = ReplaySession(device)
    for verb, arguments in (("hello", {}), ("measure", _MEASURED), ("measure", _MEASURED)):
        session.exchange(protocol.encode({"id": 1, "verb": verb, **arguments}), 1.0, lambda _: True)


@cache
def _run() -> bytes:
    with tempfile.TemporaryDirectory() as root:
        told = {"name": "x", "shape": [1, 8, 8], "mean": [0.5], "std": [0.5]}
        facts = {INPUT: told, VERSIONS: {"torch": "2"}, SPACE: space(), CALIBRATION: calibration()}
        name = finished_run(Path(root), facts=facts)
        with sqlite3.connect(Path(root) / name / NAME) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode = DELETE")
        database.close()
        return (Path(root) / name / NAME).read_bytes()


@st.composite
def _damaged_run(draw: st.DrawFn, sample: bytes) -> bytes:
    """Damage the database, or what stands in one of its rows."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(sample))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(sample)
        database = sqlite3.connect(path)
        table = draw(st.sampled_from(("facts", "facts", "trials", "artifacts")))
        rows = database.execute(
            f"SELECT rowid, json FROM {table}" if table != "facts" else "SELECT key, json FROM facts"
        )
        key, text = draw(st.sampled_from(sorted(rows.fetchall())))
        value = json.loads(text)
        if draw(st.integers(0, 4)) == 0:
            changed_text: str | bytes = draw(damaged(text.encode()))
        else:
            (tree,) = draw(changed([value])) or [None]
            changed_text = text_of(tree).decode("utf-8", "replace")
        where = "key" if table == "facts" else "rowid"
        database.execute(f"UPDATE {table} SET json = ? WHERE {where} = ?", (changed_text, key))
        database.commit()
        database.close()
        return path.read_bytes()


def _stored(path: Path) -> None:
    """List the run, show it as a table and as JSON, and gather what a bundle says of it."""
    from pipeline.cli.console import out
    from pipeline.cli.views.run import print_groups, print_run

    out.file = io.StringIO()  # what is shown is of no interest here
    root = path.parent / "runs"
    folder = root / "20260101-000000-digits"
    shutil.rmtree(root, ignore_errors=True)
    folder.mkdir(parents=True)
    path.rename(folder / NAME)
    serialization.to_text([serialization.dump(one) for one in Store.list(root)])
    with Store.open(root, folder.name) as store:
        for use in (
            lambda: serialization.to_text(as_json(store)), lambda: print_run(store), lambda: print_groups(store),
            lambda: [bundle_facts(store, one, format_of(store, one)) for one in store.artifacts()], lambda: read(store),
        ):  # fmt: skip
            _unless_refused(use)


def _unless_refused(use: Callable[[], object]) -> None:
    from pipeline.errors import PipelineError

    try:
        use()
    except PipelineError:
        return


def _damaged_json(sample: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(sample), changed(json.loads(sample)).map(text_of))


KINDS: Mapping[str, Kind] = {
    "calibration": Kind(
        _calibration, lambda s: st.one_of(damaged(s), *[changed(json.loads(s)).map(text_of)] * 2), _calibrated,
        "pi4.json",
    ),
    "recipe": Kind(
        _recipe, lambda s: st.one_of(damaged(s), *[changed(json.loads(s)).map(text_of)] * 2), _apply, "recipe.json"
    ),
    "checkpoint": Kind(_pt, lambda s: st.one_of(damaged(s), _damaged_zip(s)), _load, "net.pt"),
    "safetensors": Kind(
        _safetensors, lambda s: st.one_of(damaged(s), _damaged_header(s)), _load, "net.safetensors"
    ),
    "onnx": Kind(_onnx, damaged, _usable, "net.onnx"),
    "network": Kind(_network, damaged, load_onnx, "net.onnx"),
    "tflite": Kind(TFLITE.read_bytes, damaged, _usable, "net.tflite"),
    "inventory": Kind(_INVENTORY.encode, _damaged_yaml, load_inventory, "inventory.yaml"),
    "settings": Kind(_SETTINGS.encode, _damaged_yaml, lambda path: load_config(path, {}), "run.yaml"),
    "table": Kind(_csv, damaged, _table, "images.csv"),
    "bundle": Kind(bundles.manifest, _damaged_json, bundles.verify, MANIFEST),
    "staged": Kind(bundles.manifest, _damaged_json, bundles.stage, MANIFEST),
    "signature": Kind(bundles.signature, _damaged_json, bundles.check, SIGNATURE),
    "board-signature": Kind(bundles.signature, _damaged_json, bundles.check_on_board, SIGNATURE),
    "recording": Kind(_recording, _damaged_lines, _tape, FILE_NAME),
    "run": Kind(_run, _damaged_run, _stored, NAME),
}  # fmt: skip
