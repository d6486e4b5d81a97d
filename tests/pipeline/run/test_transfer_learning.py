"""A new last layer is trained alone first, then the whole network; what was begun goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.devices.agent_client import Agent
from pipeline.errors import StoppedError
from pipeline.run.context import Context
from pipeline.run.transfer_learning import TRAININGS, train_new_head
from pipeline.store import Store
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import net, toy_context

HEAD, WHOLE = "Train the new last layer (fc)", "Train the whole network"


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def context(new_store: Store, null_agent: Agent, heard: Listener) -> Context:
    return toy_context(new_store, null_agent, heard, head="new")


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def test_while_the_last_layer_learns_the_others_stand_still_but_for_batch_norms_statistics(
    context: Context, heard: Listener
) -> None:
    model, heard.stop_in = net(), HEAD
    before, statistics = parameters(model), model.bn1.running_mean
    assert statistics is not None
    statistics = statistics.clone()
    with pytest.raises(StoppedError):
        train_new_head(context, model)
    assert changed(model, before) == {"fc.weight", "fc.bias"}
    assert model.bn1.running_mean is not None
    assert not torch.equal(model.bn1.running_mean, statistics)
    assert all(value.requires_grad for value in model.parameters())  # nothing stays frozen, however it ends


def test_then_every_layer_learns(context: Context, heard: Listener) -> None:
    model = net()
    before = parameters(model)
    train_new_head(context, model)
    assert changed(model, before) >= before.keys() - {"conv1.bias", "conv2.bias"}  # which batch norm takes away
    assert heard.steps == {HEAD: 3, WHOLE: 3}


def test_stopped_in_the_second_training_it_goes_on_there_to_the_same_weights(
    new_store: Store, null_agent: Agent, heard: Listener, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Store.create(tmp_path_factory.mktemp("whole"), label="whole") as other:
        whole = net()
        train_new_head(toy_context(other, null_agent, head="new"), whole)
    context, torn = toy_context(new_store, null_agent, heard, head="new"), net()
    heard.stop_in = WHOLE
    with pytest.raises(StoppedError):
        train_new_head(context, torn)
    assert all(context.store.checkpoint(name).read() is not None for name in TRAININGS)
    heard.stop_in, heard.asked = None, False
    again = net()
    train_new_head(context, again)
    assert changed(again, parameters(whole)) == set()
    assert any("went on from its checkpoint" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("epochs", "stages"), [({"head_epochs": 0}, [WHOLE]), ({"whole_epochs": 0}, [HEAD])], ids=["no head", "head alone"]
)
def test_a_training_of_no_passes_is_left_out_whatever_its_fewest_steps(
    new_store: Store, null_agent: Agent, heard: Listener, epochs: dict[str, int], stages: list[str]
) -> None:
    train_new_head(toy_context(new_store, null_agent, heard, head="new", base_training=epochs), net())
    assert heard.stages == stages


@pytest.mark.parametrize(("whole_epochs", "alike"), [(0, True), (1, False)])
def test_the_l1_penalty_waits_for_the_second_training(
    null_agent: Agent, tmp_path: Path, whole_epochs: int, alike: bool
) -> None:
    trained = []
    for l1 in (0.0, 0.1):
        told = {"sparsity": {"l1": l1, "on": "weights"}, "whole_epochs": whole_epochs}
        with Store.create(tmp_path, label=f"l1-{l1}") as store:
            trained.append(net())
            train_new_head(toy_context(store, null_agent, head="new", base_training=told), trained[-1])
    without, penalised = trained
    assert (changed(penalised, parameters(without)) == set()) is alike
