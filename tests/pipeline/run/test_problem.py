"""What a strategy is told: limits with room for noise, each group's own weights, and nothing of the test split."""

from __future__ import annotations

import pytest

from pipeline.devices.agent_client import Agent
from pipeline.run.problem import PLANNING_MARGIN
from pipeline.store import Store
from tests.pipeline.run.toy_run import Toy, toy_context


def test_plans_are_made_for_targets_a_little_tighter_than_they_are(new_store: Store, null_agent: Agent) -> None:
    toy = Toy(context=toy_context(new_store, null_agent), limits={"latency": 0.5, "size": 0.8})
    problem = toy.problem()
    assert problem.limits == {
        "latency": pytest.approx(0.5 * (1 - PLANNING_MARGIN)), "size": pytest.approx(0.8 * (1 - PLANNING_MARGIN))
    }  # fmt: skip
    assert problem.margin == PLANNING_MARGIN
    assert problem.spreads == ()


def test_a_density_is_counted_without_noise_and_brings_each_tensors_spread(new_store: Store, null_agent: Agent) -> None:
    context = toy_context(new_store, null_agent, target="density=0.3x", strategy="purl", cuts={"protect": ["fc"]})
    problem = Toy(context=context, limits={"density": 0.3}).problem()
    assert problem.limits == {"density": 0.3}
    assert [spread.name for spread in problem.spreads] == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert max(problem.spreads[-1].below) == 0.0  # protected


def test_a_group_has_the_weights_of_run_yaml_or_its_own(new_store: Store, null_agent: Agent) -> None:
    reward = {"beta": 0.2, "layers": {"conv2": {"beta": 0.0, "lambda": 0.5}}}
    weights = Toy(context=toy_context(new_store, null_agent, reward=reward)).problem().weights
    assert (weights.beta, weights.lambda_, weights.alpha) == ([0.2, 0.0], [0.0, 0.5], [1.0, 1.0])


def test_the_base_the_data_and_the_settings_are_told_as_they_are(new_store: Store, null_agent: Agent) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, seed=3, trials=7))
    problem, data = toy.problem(), toy.context.data
    assert problem.base_accuracy == toy.base.figures.search_accuracy
    assert problem.images == len(data.search) == 16
    assert (*problem.input_mean, *problem.input_variance) == pytest.approx(tuple(data.input_statistics))
    assert problem.conditions == ()
    assert (problem.seed, problem.trials, problem.criterion) == (3, 7, "l1")
    assert len(problem.norms) == len(problem.space.groups) == 2
