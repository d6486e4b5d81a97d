"""Targets that this device cannot meet are refused before the search, and misses are told by how much."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from pipeline.devices.agent_client import Agent
from pipeline.errors import TargetError
from pipeline.store import Store
from tests.examples import failed_trial
from tests.pipeline.run.toy_run import Toy, took, toy_context

DEEPEST = "2-2"


@pytest.fixture
def toy(new_store: Store, null_agent: Agent) -> Toy:
    return Toy(context=toy_context(new_store, null_agent, target="latency=0.5x"))


def require(toy: Toy, saved: float) -> None:
    toy.check().require_reachable(toy.problem(saved), toy.builder, toy.bench)


def test_where_single_cuts_save_far_more_than_is_wanted_nothing_is_measured(toy: Toy) -> None:
    toy = replace(toy, limits={"latency": 0.9})
    problem = toy.problem(saved=0.45)
    sent = toy.context.agent.bytes_sent
    toy.check().require_reachable(problem, toy.builder, toy.bench)
    assert toy.context.agent.bytes_sent == sent
    assert toy.context.store.recall(f"1:{DEEPEST}") is None


def test_where_that_is_in_doubt_the_deepest_cut_is_measured_and_counts(toy: Toy) -> None:
    toy.context.store.remember(f"1:{DEEPEST}", took(0.49))
    require(toy, saved=0.05)
    toy.context.store.remember(f"1:{DEEPEST}", took(0.61))
    with pytest.raises(TargetError) as refused:
        require(toy, saved=0.3)
    assert str(refused.value) == (
        "target latency=0.5x cannot be met: cut as deep as this network allows, it still has 0.61x of the base model's "
        "latency (1.22ms) on here, as measured; choose a target above that, or a smaller network"
    )


def test_a_deepest_cut_that_is_not_known_is_measured_on_the_device(toy: Toy) -> None:
    toy = replace(toy, limits={"latency": 0.99})
    with suppress(TargetError):  # what it takes here is this machine's affair
        require(toy, saved=0.01)
    assert toy.context.store.recall(f"1:{DEEPEST}") is not None


def test_where_it_cannot_be_measured_soundly_the_search_will_tell(toy: Toy) -> None:
    toy.context.store.remember(f"1:{DEEPEST}", took(0.9, flags=("throttled",)))
    require(toy, saved=0.05)


def test_of_several_rounds_the_part_of_the_way_is_told(new_store: Store, null_agent: Agent) -> None:
    context = toy_context(new_store, null_agent, target="latency=0.25x", rounds=2)
    new_store.remember(f"1:{DEEPEST}", took(0.7))
    with pytest.raises(TargetError, match=r"target latency=0.25x \(0.5x in this round\) cannot be met"):
        require(Toy(context=context, limits={"latency": 0.5}), saved=0.05)


@pytest.mark.parametrize(("target", "reachable"), [(0.9, True), (0.8, False)])
def test_a_density_is_held_against_the_highest_threshold_without_a_device(
    new_store: Store, null_agent: Agent, target: float, reachable: bool
) -> None:
    context = toy_context(
        new_store, null_agent, target=f"density={target}x", strategy="purl", cuts={"protect": ["conv2"]}
    )
    toy = Toy(context=context, limits={"density": target})
    problem = toy.problem()
    sent = null_agent.bytes_sent
    if reachable:
        toy.check().require_reachable(problem, toy.builder, toy.bench)
    else:
        with pytest.raises(
            TargetError, match=r"with all weights below 2.2 standard deviations .* 0.847x of the base mo"
        ):
            toy.check().require_reachable(problem, toy.builder, toy.bench)
    assert null_agent.bytes_sent == sent


# ---------------------------------------------------------------- after the search


def test_where_every_trial_missed_the_nearest_is_told_in_shares_and_in_its_unit(toy: Toy) -> None:
    trials = [toy.trial(i, (25, 25), took(ratio), feasible=False) for i, ratio in enumerate((0.8, 0.625, 0.7))]
    assert str(toy.check().nearest_miss([*trials, failed_trial(3)])) == (
        "no candidate met latency=0.5x as measured; the nearest had 0.625x of the base model's latency (1.25ms); "
        "allow more --trials, or a looser target"
    )


def test_where_none_was_measured_there_is_no_nearest(toy: Toy) -> None:
    assert str(toy.check().nearest_miss([failed_trial(0)])) == (
        "no candidate met latency=0.5x as measured; allow more --trials, or a looser target"
    )


def test_where_some_met_it_until_they_were_measured_longer_their_number_is_told(toy: Toy) -> None:
    trials = [toy.trial(0, (50, 50), took(0.49)), toy.trial(1, (25, 25), took(0.7), feasible=False)]
    assert str(toy.check().nearest_miss(trials)).startswith(
        "1 of 2 trials met latency=0.5x, none when measured longer;"
    )
