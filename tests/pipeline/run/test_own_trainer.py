"""A trainer of the user's own: what it is given, what it returns is verified, and what goes wrong is told."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from pipeline.config import RunConfig
from pipeline.devices.agent_client import Agent
from pipeline.errors import ConfigError, StoppedError, TrainerError
from pipeline.pruning.trace import trace
from pipeline.run.context import Context
from pipeline.run.full_training import full_training
from pipeline.run.own_trainer import require_trainer
from pipeline.store import Store
from pipeline.store.facts import TRAINER
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import net, toy_context, toy_data

FIT = """
import copy
import torch


def fit(training):
    network = training.network
    {body}
    return network
"""
MOVED = "torch.nn.init.constant_(network.fc.bias, 0.5)"


@pytest.fixture
def heard() -> Listener:
    return Listener()


@functools.cache
def traced(seed: int) -> fx.GraphModule:
    """The toy's network, recorded once for all tests; only to be read."""
    return trace(net(seed), next(toy_data().train.batches(4))[0], classes=4)


class Trial:
    """One network, to be trained in full by a file of which the body of ``fit`` is written here."""

    def __init__(self, folder: Path, store: Store, agent: Agent, heard: Listener, **section: object) -> None:
        self.file, self.heard = folder / "mine.py", heard
        told = {"trainer": f"{self.file}:fit", "epochs": "auto", **section}
        self.context: Context = toy_context(store, agent, heard, fine_tuning=told)
        self.network, self.teacher = copy.deepcopy(traced(seed=0)), traced(seed=1)

    def fit(self, body: str, *, last: bool = True, hold_zeros: bool = False) -> None:
        self.file.write_text(FIT.format(body=body.replace("\n", "\n    ")))
        full = full_training(self.context, last=last)
        full.train(
            self.context, self.network, self.teacher, name="r1t0-full", title="Train", hold_zeros=hold_zeros
        )  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path, new_store: Store, null_agent: Agent, heard: Listener) -> Trial:
    return Trial(tmp_path, new_store, null_agent, heard)


def test_the_weights_that_it_returns_are_the_networks(trial: Trial) -> None:
    trial.fit(MOVED)
    assert trial.network.get_parameter("fc.bias").tolist() == [0.5] * 4
    assert not trial.network.training
    stored = trial.context.store.get(TRAINER)
    assert stored is not None
    assert str(trial.file) in stored


def test_it_is_given_everything_that_a_training_needs(trial: Trial) -> None:
    trial.fit(
        "images, labels = next(training.images.batches(8, generator=torch.Generator(), augment=True))\n"
        "assert images.shape == (8, 1, 6, 6) and labels.shape == (8,)\n"
        "assert training.teacher(images).shape == (8, len(training.classes))\n"
        "assert len(training.images) == 40 and len(training.validation) == 28\n"
        "assert 0 <= training.score(network) <= 1 and training.metric == 'accuracy'\n"
        "found = network(images)\n"
        "assert training.loss(found, labels).item() > 0 and training.teacher_loss(found, found).item() >= 0\n"
        "assert (training.epochs, training.max_epochs, training.budget_s) == (None, 126.0, None)\n"
        "assert training.device.type == 'cpu' and training.seed == 0 and not training.hold_zeros"
    )


def test_a_fixed_number_of_passes_leaves_nothing_to_judge_by(
    tmp_path: Path, new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    fixed = Trial(tmp_path, new_store, null_agent, heard, epochs=3, budget="2m")
    fixed.fit(
        "assert (training.epochs, training.budget_s, training.validation) == (3.0, 120.0, None)\n"
        "assert training.score(network) is None and len(training.images) == 68"
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no luck')", r"mine.py:fit raised ValueError: no luck \(mine.py, line 8\); fix it"),
        ("exit(3)", "raised SystemExit: 3"),
        ("return None", "returned nothing; return the trained network"),
        ("return 3", "returned a int; return"),
        ("network.fc.weight.data[0, 0] = float('nan')", r"not finite: fc\.weight; lower its learning rate"),
        ("network.fc = torch.nn.Linear(8, 5)", r"another network: fc\.weight is \(5, 8\), and was \(4, 8\)"),
        ("network.half()", r"conv1\.weight is torch\.float16, and was torch\.float32"),
        ("network.add_module('more', torch.nn.Linear(1, 1))", r"more\.weight is new"),
        ("del network.fc.bias", r"fc\.bias is missing"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_kept(trial: Trial, body: str, says: str) -> None:
    before = {name: value.clone() for name, value in trial.network.state_dict().items()}
    with pytest.raises(TrainerError, match=says) as raised:
        trial.fit(body)
    assert raised.value.exit_code == 2
    assert all(torch.equal(value, before[name]) for name, value in trial.network.state_dict().items())
    assert trial.context.store.get(TRAINER) is None
    trial.fit(MOVED)  # fixed, it goes on


def test_zeros_that_are_to_stay_are_looked_after(trial: Trial) -> None:
    with torch.no_grad():
        trial.network.get_parameter("fc.weight")[:, :3] = 0
    with pytest.raises(TrainerError, match=r"moved weights of fc\.weight that are zero"):
        trial.fit("torch.nn.init.ones_(network.fc.weight)", hold_zeros=True)
    trial.fit("torch.nn.init.ones_(network.fc.weight)")


def test_a_checkpoint_is_found_again_and_a_request_to_stop_passes_through(trial: Trial) -> None:
    body = (
        "known = training.saved()\n"
        "begun = 0 if known is None else known.facts['step']\n"
        "if known is not None:\n"
        "    network.load_state_dict(known.tensors)\n"
        "for step in range(begun, 4):\n"
        "    with torch.no_grad():\n"
        "        network.fc.bias.add_(1.0)\n"
        "    training.save(network.state_dict(), step=step + 1)\n"
        "    training.report(step + 1, 4, 'counting')"
    )
    start = trial.network.get_parameter("fc.bias").clone()
    trial.heard.stop_in = f"Train, by {trial.file}:fit"
    for _ in range(2):
        trial.heard.asked = False
        with pytest.raises(StoppedError):
            trial.fit(body)
    trial.heard.stop_in, trial.heard.asked = None, False
    trial.fit(body)
    torch.testing.assert_close(trial.network.get_parameter("fc.bias"), start + 4)


@pytest.mark.parametrize(
    ("trainer", "text", "says"),
    [
        ("mine.py", "", r"fine_tuning.trainer is .*mine.py; write FILE.py:FUNCTION"),
        ("other.py:fit", "", "no such file"),
        ("mine.py:fti", "def fit(training): ...\n", r"nothing is named 'fti' there \(did you mean 'fit'\?\)"),
        ("mine.py:fit", "fit = 3\n", r"is not a function of one argument, fit\(training\)"),
        ("mine.py:fit", "def fit(network, teacher): ...\n", r"is not a function of one argument"),
        ("mine.py:fit", "import nothing_of_that_name\n", "cannot be imported"),
    ],
)
def test_a_trainer_that_cannot_be_called_is_told_before_a_run_begins(
    tmp_path: Path, trainer: str, text: str, says: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=says):
        require_trainer(RunConfig.model_validate({"fine_tuning": {"trainer": f"{tmp_path}/{trainer}"}}))


def test_without_one_nothing_is_required() -> None:
    require_trainer(RunConfig())
    assert isinstance(net(), nn.Module)
