"""A search of a few trials: what is stored of each, what is resumed, and when it ends early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.devices.agent_client import Agent
from pipeline.errors import MeasureError, StoppedError
from pipeline.run.search_stage import FAILURES_IN_A_ROW, Search
from pipeline.store import Store
from pipeline.store.facts import USAGE
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, Toy, took, toy_context, widths


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def toy(new_store: Store, null_agent: Agent, heard: Listener) -> Toy:
    return Toy(context=toy_context(new_store, null_agent, heard), limits={"size": 0.9})


def refusing(toy: Toy, *kept: tuple[int, ...]) -> Search:
    """The toy's search on a device whose runtime loads no network but those of these widths."""
    files = NullFiles(
        toy.context.example, told=lambda net: {} if widths(net) in ((8, 8), *kept) else {"refuse": "an operator"}
    )
    return replace(toy.search(), builder=replace(toy.builder, format=files))


def test_each_trial_is_stored_with_its_figures_reward_and_terms(toy: Toy) -> None:
    trials = toy.search().trials()
    assert toy.context.store.trials() == trials
    assert [trial.index for trial in trials] == [0, 1, 2]
    assert len({trial.key for trial in trials}) == 3
    for trial in trials:
        assert trial.failure is None
        assert trial.measurement is not None
        assert trial.candidate is not None
        assert trial.measurement.runtime.startswith("null")
        assert trial.reward == pytest.approx(sum(trial.terms.values()))
        assert trial.feasible is (trial.candidate.size_bytes / toy.base.figures.size_bytes <= 0.9)
        assert toy.context.store.recall(f"1:{trial.key}") == trial.measurement


def test_a_resumed_search_is_told_what_is_stored_and_tries_the_rest(toy: Toy, heard: Listener) -> None:
    heard.stop_in = "Search with random"
    with pytest.raises(StoppedError):
        toy.search().trials()
    stored = toy.context.store.trials()
    assert 1 <= len(stored) < 3
    heard.stop_in, heard.asked = None, False
    heard.tried.clear()

    trials = toy.search().trials()
    assert trials[: len(stored)] == stored
    assert toy.context.store.trials() == trials
    assert [one.replayed for one in heard.tried] == [True] * len(stored) + [False] * (3 - len(stored))


def test_a_finished_search_measures_nothing_when_it_is_resumed(toy: Toy) -> None:
    trials = toy.search().trials()
    sent = toy.context.agent.bytes_sent
    assert toy.search().trials() == trials
    assert toy.context.agent.bytes_sent == sent


def test_a_candidate_that_the_device_refuses_is_a_trial_with_a_failure(toy: Toy, heard: Listener) -> None:
    first, second, third = (trial.plan for trial in toy.search().trials())
    kept = [toy.builder.space.kept(plan.levels) for plan in (first, third)]
    with Store.create(toy.context.store.path.parent / "again", label="again") as store:
        again = Toy(context=toy_context(store, toy.context.agent, heard), limits=toy.limits)
        trials = refusing(again, *kept).trials()
    failed = trials[1]
    assert [trial.failure is None for trial in trials] == [True, False, True]
    assert failed.plan == second
    assert failed.failure is not None
    assert "an operator" in failed.failure
    assert (failed.measurement, failed.reward, failed.feasible) == (None, None, False)
    assert failed.candidate is not None  # what is known of it is kept


def test_so_many_failures_in_a_row_end_the_search_with_the_last_ones_reason(
    new_store: Store, null_agent: Agent
) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, trials=9), limits={"size": 0.9})
    with pytest.raises(
        MeasureError, match=rf"{FAILURES_IN_A_ROW} candidates failed in a row, the last with: .*an opera"
    ):
        refusing(toy).trials()
    assert [trial.failure is not None for trial in new_store.trials()] == [True] * FAILURES_IN_A_ROW


def test_invalid_figures_in_a_row_end_it_with_what_to_do_about_them(new_store: Store, null_agent: Agent) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, trials=9), limits={"size": 0.9})
    for one in (8, 6, 4, 2):
        for other in (8, 6, 4, 2):
            new_store.remember(f"1:{one}-{other}", took(0.5, flags=("throttled",)))
    with pytest.raises(MeasureError, match=r"the firmware slowed the processor down\); something else keeps this mach"):
        toy.search().trials()
    assert all(trial.measurement is not None for trial in new_store.trials())


def test_how_the_device_spent_its_time_is_kept_however_the_search_ends(toy: Toy, heard: Listener) -> None:
    heard.stop_in = "Search with random"
    with pytest.raises(StoppedError):
        toy.search().trials()
    before = toy.context.store.required(USAGE.of(1))
    assert before.measuring_s > 0
    heard.stop_in, heard.asked = None, False
    toy.search().trials()
    assert toy.context.store.required(USAGE.of(1)).measuring_s > before.measuring_s


def test_trials_of_a_later_round_are_numbered_on_and_say_so(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, heard, rounds=2), limits={"size": 0.9}, number=2)
    trials = toy.search().trials()
    assert [(trial.index, trial.round) for trial in trials] == [(3, 2), (4, 2), (5, 2)]
    assert heard.stages[-1] == "Search with random, round 2 of 2"


def test_what_was_measured_corrects_what_plans_are_predicted_to_cost(toy: Toy) -> None:
    for one in (8, 6, 4, 2):
        for other in (8, 6, 4, 2):
            toy.context.store.remember(f"1:{one}-{other}", took(0.3, 0.01))
    search = replace(toy.search(), problem=toy.problem(saved=0.05))
    both = np.array([[2, 2]])
    assert search.problem.costs.predict(both)["latency"][0] > 0.9
    search.trials()
    assert search.problem.costs.predict(both)["latency"][0] < 0.7


def test_torch_has_its_threads_back_after_the_search(toy: Toy) -> None:
    torch.set_num_threads(2)
    toy.search().trials()
    assert torch.get_num_threads() == 2


def test_layers_own_weights_count_what_cutting_up_to_each_layer_changes(new_store: Store, null_agent: Agent) -> None:
    toy = Toy(context=toy_context(new_store, null_agent), limits={"size": 0.9})
    search, base = toy.search(), toy.base.figures.search_accuracy
    weights = replace(search.problem.weights, alpha=[1.0, 3.0])
    search = replace(search, problem=replace(search.problem, weights=weights))
    for trial in search.trials():
        assert trial.candidate is not None
        first = replace(trial.plan, levels=(trial.plan.levels[0], 0))
        between, whole = (toy.builder.build(plan).candidate.accuracy / base for plan in (first, trial.plan))
        assert trial.terms["accuracy"] == pytest.approx(2.0 + 1.0 * (between - 1) + 3.0 * (whole - between))
        assert trial.reward == pytest.approx(sum(trial.terms.values()))
