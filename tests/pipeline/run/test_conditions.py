"""A run under several conditions of its data: one search, judged under each, a network for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.data.conditions import mixture, parse_condition, under
from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import ConfigError, StoppedError, UserError
from pipeline.events import Event
from pipeline.run.inputs import Inputs, load_inputs
from pipeline.run.problem import stored_problem
from pipeline.run.replanning import replan
from pipeline.run.runner import Prepared, execute
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts, winner_of
from pipeline.store.facts import BASE, CHOSEN, CONFIG
from pipeline.targets import parse_target
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, configured, net, toy_context, toy_data

NAMES = ("clean", "night:5")
QUICK = {
    "hidden": 16, "first_simulated_episodes": 60, "simulated_episodes": 30, "first_updates": 10, "updates": 5,
    "single_cut_share": 0.2,
}  # fmt: skip


class _InTheSecondTraining(Listener):
    """Asks the run to stop when the network of the second condition is trained in full: the first one is finished."""

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        self.asked |= sum(stage.startswith("Fine-tune the chosen one") for stage in self.stages) == 2


def settings(strategy: str) -> dict[str, Any]:
    return {
        "target": "size=0.8x", "strategy": strategy, "conditions": NAMES, "trials": 5,
        "strategy_options": QUICK if strategy == "dqn" else {},
    }  # fmt: skip


def ready(store: Store, agent: Agent, strategy: str) -> Prepared:
    """What ``prepared`` gives of the toy's data under both conditions."""
    context = toy_context(store, agent, **settings(strategy))
    conditions = {name: under(toy_data(), parse_condition(name)) for name in NAMES}
    inputs = Inputs(
        config=context.config.model_copy(update={"weights": None}), data=mixture(list(conditions.values())),
        model=net(), example=context.example, network=torch.fx.symbolic_trace(net()), conditions=conditions,
    )  # fmt: skip
    return Prepared(inputs=inputs, boards=BoardPool.of(agent), format=NullFiles(context.example))


@pytest.fixture(scope="module", params=["dqn", pytest.param("random", marks=pytest.mark.slow)])
def ended(
    request: pytest.FixtureRequest, null_agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A run that was stopped in its search and in the trainings after it, and then went to its end; to be read."""
    threads, strategy = torch.get_num_threads(), request.param
    torch.set_num_threads(1)
    facts = {CONFIG: configured(**settings(strategy)).model_dump(mode="json", by_alias=True)}
    with Store.create(tmp_path_factory.mktemp("runs"), label="toy", facts=facts) as store:
        for listener in (Listener(stop_in=f"Search with {strategy}"), _InTheSecondTraining()):
            with pytest.raises(StoppedError):
                execute(
                    ready(store, null_agent, strategy), store, listen=listener,
                    stopping=lambda: listener.asked,  # noqa: B023
                )  # fmt: skip
        execute(ready(store, null_agent, strategy), store, listen=Listener(), stopping=lambda: False)
        yield store
    torch.set_num_threads(threads)


def test_every_trial_is_judged_under_each_condition_and_measured_once(ended: Store) -> None:
    for trial in ended.trials():
        assert trial.candidate is not None
        assert tuple(trial.candidate.accuracies) == tuple(trial.rewards) == NAMES
        assert trial.candidate.accuracy == pytest.approx(sum(trial.candidate.accuracies.values()) / 2)
        for name in NAMES:
            seen, base = trial.under(name), ended.required(BASE.of(name))
            assert seen.reward == trial.rewards[name]
            assert seen.candidate is not None
            others = sum(value for term, value in trial.terms.items() if term != "accuracy")
            assert seen.reward == pytest.approx(seen.candidate.accuracy / base.search_accuracy + others)


def test_each_condition_has_a_chosen_network_of_its_own_images(ended: Store) -> None:
    chosen = chosen_artifacts(ended)
    assert [one.condition for one in chosen] == list(NAMES)
    assert ended.get(CHOSEN) == chosen[0].id
    for one in chosen:
        assert ended.get(winner_of(1, one.condition)) == one.id
        assert one.after.test_accuracy == one.accuracy_under[one.condition]
        assert set(one.accuracy_under) == set(NAMES)
        assert base_of(ended, one).test_accuracy is not None
    assert len({one.files["weights.safetensors"] for one in chosen}) == 2, "trained on different images"
    assert "night:5" in (ended.path / "report.html").read_text("utf-8")


def test_the_base_s_figure_is_the_mean_over_the_conditions(ended: Store) -> None:
    each = [ended.required(BASE.of(name)) for name in NAMES]
    whole = ended.required(BASE)
    assert whole.search_accuracy == pytest.approx(sum(one.search_accuracy for one in each) / 2)
    assert whole.measurement == each[0].measurement == each[1].measurement


def test_the_stored_problem_knows_the_conditions_by_channel(ended: Store) -> None:
    problem = stored_problem(ended, 1)
    assert [one.name for one in problem.conditions] == list(NAMES)
    clean, night = problem.conditions
    assert len(clean.input_mean) == len(clean.input_variance) == 1
    assert night.input_mean < clean.input_mean


def test_a_plan_of_another_target_is_for_the_condition_that_is_named(ended: Store) -> None:
    targets = [parse_target("size=0.7x")]  # of a run of strategy random, the network is trained now
    for name in NAMES:
        found = replan(ended, targets, name)
        assert found.condition == name
        assert 0 <= found.accuracy <= 1
    with pytest.raises(UserError, match="a plan for each of 2 conditions; it has: clean, night:5; name one"):
        replan(ended, targets)
    with pytest.raises(UserError, match="has no condition fog:1; it has: clean, night:5"):
        replan(ended, targets, "fog:1")


def test_several_conditions_and_several_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 conditions make a network each; leave rounds out"):
        load_inputs(configured(conditions=NAMES, rounds=2, data="digits", model=None, weights=None))


def test_the_views_of_a_context_are_the_conditions(new_store: Store, null_agent: Agent) -> None:
    plain = toy_context(new_store, null_agent)
    assert plain.of_each_condition() == [plain]
    dark = under(plain.data, parse_condition("night:5"))
    views = replace(plain, conditions={"clean": plain.data, "night:5": dark}).of_each_condition()
    assert [(view.condition, view.data) for view in views] == [("clean", plain.data), ("night:5", dark)]
    assert all(not view.conditions for view in views)
