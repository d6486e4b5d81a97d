"""One trained network and one finished run, shared by all tests that only look at them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.data import load_data
from pipeline.pruning.reconstruction.batch_norm import FineTuning, fine_tune
from tests.command_line import NETWORK, Desk
from tests.made_once import made_once


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' network, trained on the digits for two seconds."""
    return made_once(tmp_path_factory.getbasetemp(), "weights-of-tests", _train) / "net.pt"


def _train(folder: Path) -> None:
    source = folder / "net.py"
    source.write_text(NETWORK)
    spec = importlib.util.spec_from_file_location("net_of_tests", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    network = module.Net(10)
    train = load_data("digits").train
    fine_tune(network, train, FineTuning(epochs=4, learning_rate=0.1, teacher_mix=0.0))
    torch.save(network.state_dict(), folder / "net.pt")


@pytest.fixture
def desk(tmp_path: Path, weights: Path) -> Desk:
    """A folder of one's own, ready to run."""
    return Desk(tmp_path / "desk", weights)


@pytest.fixture(scope="session")
def new_desk(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Callable[[], Desk]:
    """Make folders that are ready to run."""
    return lambda: Desk(tmp_path_factory.mktemp("desk"), weights)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Desk:
    """A folder with one finished run in it; only to be read. Its output lies in run.json and run.err."""

    def run(folder: Path) -> None:
        desk = Desk(folder, weights).thoroughly()
        done = desk.done("run", "--config", "run.yaml", "--epochs", "4", "--json")
        desk.write("run.json", done.out)
        desk.write("run.err", done.err)

    return Desk.there(made_once(tmp_path_factory.getbasetemp(), "run-of-tests", run))
