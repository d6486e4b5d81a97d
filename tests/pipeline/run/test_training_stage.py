"""A training as a stage of a run: its progress, its checkpoint, and what is said when it ends early."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.devices.agent_client import Agent
from pipeline.errors import StoppedError
from pipeline.events import StageProgress
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.run.context import Context
from pipeline.run.training_stage import discard_checkpoint, train_with_checkpoints
from pipeline.store import Store
from pipeline.store.facts import HALF_PRECISION
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


def train(
    context: Context, model: nn.Module, settings: FineTuning = SETTINGS, *, unseen: bool = True, expect: bool = False
) -> nn.Module:
    data = context.data
    judge = data.search if unseen else None
    train_with_checkpoints(
        context, model, data.train, settings, name="some", title="Train", judge=judge, expect=expect
    )  # fmt: skip
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


def test_the_time_of_a_training_is_told_before_it_begins(context: Context, heard: Listener) -> None:
    train(context, net(), expect=True)
    assert re.fullmatch(r"2 passes over 40 images, about \d+ s", heard.notes[0])


def test_one_of_unknown_length_says_its_cycles_and_how_it_ended(context: Context, heard: Listener) -> None:
    restarts = replace(SETTINGS, epochs=20.0, restarts=True, budget_s=3600.0)
    model = train(context, net(), restarts, expect=True)
    told, ended = heard.notes
    assert told.startswith("trained until it stops helping, judged on 16 other images: cycles of 2, 4, 8, … passes")
    assert told.endswith(" (20 passes); the budget is 1 h 0 min")
    assert re.match(r"trained (6|20) passes in \d+ s, [23] cycles", ended)
    assert f"{accuracy(model, context.data.search):.1%}" in ended
    assert heard.steps == {"Train": None}


def test_what_a_cycle_still_takes_is_told_meanwhile(context: Context) -> None:
    heard: list[str] = []
    hearing = replace(context, listen=lambda e: heard.append(e.note) if isinstance(e, StageProgress) else None)
    train(hearing, net(), replace(SETTINGS, epochs=6.0, restarts=True))
    assert heard[0].startswith("loss ")
    assert re.search(r", pass 0\.7, this cycle ends in \d+ s$", heard[1])
    heard.clear()
    train(hearing, net(), SETTINGS)
    assert re.search(r"loss \d\.\d+, \d+ s left$", heard[-1])


def test_the_precision_is_found_once_and_a_resumed_run_keeps_to_it(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    finding = toy_context(new_store, null_agent, heard, training_precision="auto")
    train(finding, net())
    if finding.accelerator.half is None:
        assert new_store.get(HALF_PRECISION) is None  # this processor has none, and nothing was tried
        return
    found = new_store.get(HALF_PRECISION)
    assert found is not None
    new_store.set(HALF_PRECISION, not found)
    train(finding, net())
    assert new_store.get(HALF_PRECISION) is not found
