"""A training as a stage of a run: its progress, its checkpoint, and what is said when it ends early."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.devices.agent_client import Agent
from pipeline.errors import StoppedError
from pipeline.run.context import Context
from pipeline.run.training_stage import discard_checkpoint, train_with_checkpoints
from pipeline.store import Store
from pipeline.training.settings import FineTuning
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import net, toy_context

SETTINGS = FineTuning(epochs=2.0, batch_size=16, learning_rate=0.05, teacher_mix=0.0)
"""Six steps of 40 images."""


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def context(new_store: Store, null_agent: Agent, heard: Listener) -> Context:
    return toy_context(new_store, null_agent, heard)


def train(context: Context, model: nn.Module, settings: FineTuning = SETTINGS, *, unseen: bool = True) -> nn.Module:
    train_with_checkpoints(context, model, context.data.train, settings, name="some", title="Train", unseen=unseen)
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, yours) for mine, yours in pairs)


def test_a_stage_of_so_many_steps_trains_the_network_in_place(context: Context, heard: Listener) -> None:
    model = train(context, net())
    assert not same(model, net())
    assert heard.steps == {"Train": 6}


def test_one_that_was_stopped_goes_on_from_its_checkpoint_to_the_same_weights(
    context: Context, heard: Listener
) -> None:
    whole = train(context, net())
    discard_checkpoint(context, "some")
    heard.stop_in = "Train"
    with pytest.raises(StoppedError, match="everything measured so far is kept"):
        train(context, net())
    assert context.store.checkpoint("some").read() is not None
    heard.stop_in, heard.asked = None, False
    assert same(train(context, net(seed=1)), whole)
    assert heard.notes == ["the training went on from its checkpoint at step 2 of 6"]


def test_a_checkpoint_that_is_discarded_is_gone_and_one_that_never_was_may_be(context: Context) -> None:
    context.store.checkpoint("some").write(b"half way")
    discard_checkpoint(context, "some")
    discard_checkpoint(context, "other")
    assert context.store.checkpoint("some").read() is None


def test_with_patience_it_ends_early_and_says_which_weights_are_kept(context: Context, heard: Listener) -> None:
    still = FineTuning(epochs=9.0, batch_size=16, learning_rate=1e-12, weight_decay=0.0, teacher_mix=0.0, patience=1)
    train(context, net(), still)
    (told,) = heard.notes
    assert told.startswith("the training ended early at step ")
    assert told.endswith("% on the search split")


def test_where_the_search_split_is_trained_on_nothing_stops_early_and_that_is_said(
    context: Context, heard: Listener
) -> None:
    train(context, net(), FineTuning(epochs=1.0, batch_size=16, teacher_mix=0.0, patience=1), unseen=False)
    assert heard.notes == ["no early stopping here: the search split, which it goes by, is trained on as well"]
