"""A user's own data and a network trained on other classes, over the command line."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.config import RunConfig, load_config
from pipeline.data import load_data
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import ConfigError, StoppedError
from pipeline.run.base_model import make_base
from pipeline.run.context import Context
from pipeline.run.inputs import load_inputs
from pipeline.run.runner import Prepared, prepared
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS
from tests.command_line import Desk, finished, read_until
from tests.pipeline.listening import Listener

PARITY = """
from pathlib import Path

import torch
from sklearn.datasets import load_digits


class Parity(torch.utils.data.Dataset):
    '''The digits by whether they are even; one of them cannot be read.'''

    classes = ["even", "odd"]

    def __init__(self, count):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images / 16).float()[:count, None]
        self.labels = digits.target[:count] % 2

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        if i == 7:
            raise OSError("bad block")
        return self.images[i], self.labels[i]


def parity():
    return Parity(int(Path(__file__).with_name("count.txt").read_text()))
"""
TRANSFER = "{head_epochs: 1, whole_epochs: 1, min_steps: 25}"
RECOVERY = "{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 10}"


@pytest.fixture
def parity(desk: Desk) -> Desk:
    desk.write("mine.py", PARITY)
    desk.write("count.txt", "700")
    own = {"data": "dataset:mine.py:parity", "max_unreadable": "1", "base_training": TRANSFER, "fine_tuning": RECOVERY}
    desk.settings(**own, trials="2", target="[]")
    return desk


def test_a_new_head_without_weights_under_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no weights are given; add --weights FILE, or leave --head out"):
        load_inputs(RunConfig(head="new"))


def test_another_head_than_a_new_one_is_refused(desk: Desk) -> None:
    refused = desk.do("run", "--head", "old")
    assert refused.code == 2
    assert "--head: should be 'new', found 'old'" in refused.error


@pytest.fixture
def ready(parity: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepared]:
    """A transfer with everything that a training can be told, ready to run in this process."""
    told = "{head_epochs: 1, whole_epochs: 1, min_steps: 9, batch_size: 64, patience: 9, sparsity: {l1: 1.0e-3}}"
    parity.settings(data="dataset:mine.py:parity", max_unreadable="1", head="new", base_training=told, target="[]")
    monkeypatch.chdir(parity.folder)
    threads = torch.get_num_threads()
    board = load_inventory(Path("inventory.yaml")).device("local")
    with prepared(load_config(Path("run.yaml"), {}), board, listen=lambda _: None) as ready:
        yield ready
    torch.set_num_threads(threads)


def based(ready: Prepared, store: Store, listener: Listener) -> None:
    """Train and measure a base model, or go on with it."""
    inputs = ready.inputs
    context = Context(
        config=inputs.config, store=store, boards=ready.boards, data=inputs.data, example=inputs.example,
        format=ready.format, listen=listener, stopping=lambda: listener.asked,
    )  # fmt: skip
    make_base(context, copy.deepcopy(inputs.model))


def test_a_transfer_that_is_stopped_goes_on_in_either_training(ready: Prepared, tmp_path: Path) -> None:
    with Store.create(tmp_path, label="straight") as straight, Store.create(tmp_path, label="torn") as torn:
        whole, last = Listener(), Listener()
        based(ready, straight, whole)
        for stage in ("Train the new last layer (fc)", "Train the whole network"):
            with pytest.raises(StoppedError):
                based(ready, torn, Listener(stop_in=stage))
        assert [path.stem for path in sorted((torn.path / "checkpoints").iterdir())] == ["head", "whole"]
        based(ready, torn, last)
        assert torn.get(BASE_WEIGHTS) == straight.get(BASE_WEIGHTS)
        assert not (torn.path / "checkpoints").exists()
    assert sum("went on from its checkpoint at step" in note for note in last.notes) == 2
    assert sum("kept are the weights of step" in note for note in whole.notes) == 2  # early stopping, in both


@pytest.mark.slow
def test_a_new_head_is_trained_and_a_resumed_run_keeps_its_splits_and_refuses_changed_data(parity: Desk) -> None:
    run = parity.start("run", "--config", "run.yaml", "--head", "new")
    seen = read_until(run, "trial 0:")
    run.send_signal(signal.SIGKILL)
    finished(run)
    assert "skipped 1 of 700 images, unreadable: train item 7: OSError: bad block (mine.py, line " in seen
    stages = [seen.index(name) for name in ("Train the new last layer (fc)", "Train the whole network", "base: ")]
    assert stages == sorted(stages)

    parity.write("count.txt", "690")
    refused = parity.do("run", "--resume", "latest")
    assert refused.code == 2
    assert "the data has changed: dataset holds 689 images, and held 699 when the run began" in refused.error

    parity.write("count.txt", "700")
    parity.write("mine.py", PARITY + "# changed since")
    refused = parity.do("run", "--resume", "latest")
    assert refused.code == 2
    assert "mine.py" in refused.error
    assert "put it back as it was" in refused.error

    parity.write("mine.py", PARITY)
    resumed = parity.done("run", "--resume", "latest")
    assert "Train the new last layer" not in resumed.err  # its weights are stored
    shown = parity.done("runs", "show", "latest", "--json").json
    assert shown["base"]["search_accuracy"] > 0.75  # half of the digits are even
    assert shown["config"]["head"] == "new"

    parity.done("pull", "latest", "--output", "bundle")
    assert json.loads((parity.folder / "bundle" / "manifest.json").read_text())["classes"] == ["even", "odd"]
    assert (parity.folder / "bundle" / "labels.txt").read_text() == "even\nodd\n"


SIGNALS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Conv1d(in_channels, 32, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm1d(32)
        self.deep = nn.Conv1d(32, 32, 5, stride=2, padding=2, bias=False)
        self.bn2 = nn.BatchNorm1d(32)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.bn(self.stem(x)).relu()
        return self.fc(self.pool(self.bn2(self.deep(x)).relu()).flatten(1))


def waves():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(360) % 3
    time = torch.arange(96) / 15.28
    phases = 6 * torch.rand(360, 2, 1, generator=generator)
    values = 40 + 3 * torch.sin((2.0 + 3 * labels[:, None, None]) * time + phases)
    values += 0.3 * torch.randn(360, 2, 96, generator=generator)
    return torch.utils.data.TensorDataset(values, labels)
"""


@pytest.mark.slow
def test_a_network_of_signals_is_trained_pruned_verified_and_runs_from_its_bundle(desk: Desk) -> None:
    desk.write("mine.py", SIGNALS)
    training = "{epochs: 5, batch_size: 32, learning_rate: 0.05}"
    desk.settings(model="mine.py:Net", weights="null", data="dataset:mine.py:waves", base_training=training)
    run = desk.done("run", "--config", "run.yaml", "--target", "latency=0.9x")
    assert "verified on the device with 20 images" in run.out
    shown = desk.done("runs", "show", "latest", "--json").json
    assert shown["base"]["search_accuracy"] > 0.9
    desk.done("pull", "latest", "--output", "bundle")
    told = json.loads((desk.folder / "bundle" / "manifest.json").read_text())["input"]
    assert (told["kind"], told["shape"], told["layout"]) == ("signal", [2, 96], "NCL")

    (values, labels), right = _waves(desk), 0
    for i in range(12):
        np.save(desk.folder / "signal.npy", values[i])
        example = [sys.executable, "bundle/example.py", "signal.npy"]
        done = subprocess.run(example, capture_output=True, text=True, check=True, cwd=desk.folder)
        right += done.stdout.splitlines()[1].split()[-1] == str(labels[i])
    assert right >= 10


def _waves(desk: Desk) -> tuple[NDArray[np.float32], list[int]]:
    data = load_data(f"dataset:{desk.folder / 'mine.py'}:waves")
    pool = data.train.pool
    return pool.read(torch.arange(12)).numpy(), pool.labels[:12].tolist()
