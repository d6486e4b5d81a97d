"""Rounds from end to end on the null runtime: the second prunes what the first has left, and none is done twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import fx

from pipeline.devices.agent_client import Agent
from pipeline.errors import TargetError
from pipeline.models.safetensors_io import weights_bytes
from pipeline.recipes.recipe import RECIPE, read_recipe
from pipeline.records import Artifact
from pipeline.run.base_model import Base, make_base
from pipeline.run.context import Context
from pipeline.run.provenance import store_provenance
from pipeline.run.round import describe_space, describe_weights, prune_once
from pipeline.store import Store
from pipeline.store.facts import CONFIG, SPACE, WINNER
from tests.examples import space
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import Toy, net, took, toy_context, widths

FIRST, SECOND = {"size": 0.8}, {"size": 0.4}
COUNTED = {"latency": 0.0}
"""What is measured is left out of what decides, so that each machine comes to the same plans."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """Two finished rounds; only to be read."""

    context: Context
    heard: Listener
    base: Base
    networks: tuple[fx.GraphModule, fx.GraphModule]
    winners: tuple[Artifact, Artifact]


@pytest.fixture(scope="module", autouse=True)
def in_twos(null_agent: Agent) -> Iterator[None]:
    """The board computes two channels at once: of eight, six, four or two can stay."""
    device = null_agent.device
    null_agent.device = replace(device, channel_step=2)
    yield
    null_agent.device = device


@pytest.fixture(scope="module")
def ran(null_agent: Agent, in_twos: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    heard, threads = Listener(), torch.get_num_threads()
    torch.set_num_threads(1)
    with Store.create(tmp_path_factory.mktemp("rounds"), label="rounds", facts={CONFIG: {"rounds": 2}}) as store:
        context = toy_context(store, null_agent, heard, rounds=2, target="size=0.4x", reward=COUNTED)
        store_provenance(context)
        base = make_base(context, net())
        ((network, winner),) = prune_once(context, 1, base, base.network, FIRST)
        ((smaller, last),) = prune_once(context, 2, base, network, SECOND)
        yield Ran(context=context, heard=heard, base=base, networks=(network, smaller), winners=(winner, last))
    torch.set_num_threads(threads)


def test_a_round_ends_with_a_stored_winner_that_meets_its_limit(ran: Ran) -> None:
    store = ran.context.store
    for number, limits in ((1, FIRST), (2, SECOND)):
        winner, network = ran.winners[number - 1], ran.networks[number - 1]
        assert store.get(WINNER.of(number)) == winner.id
        assert winner in store.artifacts()
        assert winner.round == number
        assert winner.after.size_bytes / ran.base.figures.size_bytes <= limits["size"]
        assert winner.after.measurement.ratio is not None
        assert winner.after.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_the_second_round_cuts_what_the_first_has_left(ran: Ran) -> None:
    (one, other), (less, fewer) = map(widths, ran.networks)
    assert (one, other) != (8, 8)
    assert less <= one
    assert fewer <= other
    assert less + fewer < one + other
    recipe = read_recipe(ran.context.store.blob(ran.winners[1].files[RECIPE]))
    assert len(recipe.cuts) == 2


def test_trials_and_spaces_are_stored_by_round(ran: Ran) -> None:
    store = ran.context.store
    assert [trial.round for trial in store.trials()] == [1, 1, 1, 2, 2, 2]
    assert store.required(SPACE.of(1)).parameters == ran.base.figures.parameters
    assert store.required(SPACE.of(2)).parameters == ran.winners[0].after.parameters


def test_stages_follow_each_other_as_the_documents_draw_them(ran: Ran) -> None:
    wanted = ["Find what can be pruned", "Measure single cuts", "Search with random, round 1 of 2"]
    assert [stage for stage in ran.heard.stages if stage in wanted][:3] == wanted


def test_a_round_that_was_finished_is_not_searched_or_trained_again(ran: Ran) -> None:
    heard, sent, before = Listener(), ran.context.agent.bytes_sent, ran.context.store.trials()
    ((network, winner),) = prune_once(replace(ran.context, listen=heard), 1, ran.base, ran.base.network, FIRST)
    assert winner == ran.winners[0]
    assert weights_bytes(network) == weights_bytes(ran.networks[0])
    assert heard.stages == ["Find what can be pruned"]
    assert ran.context.agent.bytes_sent == sent
    assert ran.context.store.trials() == before


def test_a_target_that_no_cut_reaches_ends_the_round_before_its_search(new_store: Store, null_agent: Agent) -> None:
    heard = Listener()
    context = toy_context(new_store, null_agent, heard, target="size=0.01x")
    store_provenance(context)
    base = make_base(context, net())
    with pytest.raises(TargetError, match=r"target size=0\.01x cannot be met: cut as deep as this network allows"):
        prune_once(context, 1, base, base.network, {"size": 0.01})
    assert not any(stage.startswith("Search") for stage in heard.stages)
    assert (new_store.trials(), new_store.artifacts(), new_store.get(WINNER.of(1))) == ([], [], None)


def test_where_no_candidate_holds_when_measured_longer_the_round_says_so(new_store: Store, null_agent: Agent) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, target="latency=0.5x"))
    for levels in itertools.product(*(group.levels for group in toy.builder.space.groups)):
        new_store.remember(f"1:{toy.builder.space.key(levels)}", took(0.49, 0.03))
        toy.know_again(toy.builder.skeleton(levels), took(0.6))
    with pytest.raises(TargetError, match=r"3 of 3 trials met latency=0.5x, none when measured longer; allow more"):
        prune_once(toy.context, 1, toy.base, toy.base.network, {"latency": 0.5})
    assert len(new_store.trials()) == 3
    assert new_store.artifacts() == []


def test_a_user_is_told_what_can_be_cut_and_what_stays(ran: Ran) -> None:
    assert describe_space(replace(space(), refused_macs={"fc": 16_000})) == (
        "2 groups of channels can be cut, 1 of them as a whole; 1.0% of the MACs stay "
        "(fc: its width is the number of classes)"
    )
    many = replace(space(), refused=dict.fromkeys("abcde", "why"))
    assert describe_space(many).endswith("(a: why; b: why; c: why; and 2 more)")
    assert describe_weights(ran.base.network, ["conv1", "fc"]) == (
        "576 weights of 1 layers can become zero, 84.7% of all; every channel stays"
    )
