"""A finished run as a Gymnasium environment: what its strategy was told, and what its trials have taught since."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import pipeline
from pipeline import plugins
from pipeline.errors import UserError
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.run.loop import search
from pipeline.run.problem import learn_costs, stored_problem
from pipeline.search.planner import indices
from pipeline.search.strategy import Strategy
from pipeline.search.strategy_plugin import STRATEGIES
from pipeline.store import Store
from pipeline.store.facts import BASE, DEVICE_FACTS
from tests.command_line import Desk
from tests.pipeline.comparison.stores import finished_run


@dataclass
class Heard:
    """A strategy, and the plans that it was asked for."""

    strategy: Strategy
    plans: list[PruningPlan] = field(default_factory=list)

    def ask(self) -> PruningPlan:
        self.plans.append(self.strategy.ask())
        return self.plans[-1]

    def tell(self, trial: Trial) -> None:
        self.strategy.tell(trial)


def unneeded(*_: object) -> NoReturn:
    raise AssertionError("all trials are known")


def test_on_the_stored_problem_the_run_s_strategy_asks_for_the_run_s_plans_again(ran: Desk) -> None:
    with Store.open(ran.runs, "latest") as store:
        problem, trials, base = stored_problem(store, 1), store.trials(), store.required(BASE)
        ahead = int(store.required(DEVICE_FACTS).cores > 1)  # the board is this machine: as its agent has it
    heard = Heard(plugins.load(STRATEGIES, "dqn").create(problem))
    known = {trial.index: trial for trial in trials}
    for trial in search(heard, unneeded, unneeded, unneeded, trials=len(trials), known=known, lookahead=ahead):
        learn_costs(problem.costs, trial, base.size_bytes)
    assert heard.plans == [trial.plan for trial in trials]


def test_an_episode_of_a_run_is_a_plan_of_its_groups_that_earns_what_the_models_promise(ran: Desk) -> None:
    env = pipeline.environment(runs=ran.runs)
    with pipeline.open_run(runs=ran.runs) as run:
        (trial, *_) = run.trials()
    env.reset(seed=0)
    earned = sum(float(env.step(np.int64(level))[1]) for level in indices(trial.plan))
    assert len(env.groups) == len(env.plan().levels)
    assert set(env.plan().levels) <= set(LEVELS)
    planner, levels = env.planner, np.array([indices(env.plan())])
    nothing = planner.potential(planner.empty_plans(1))[0]
    assert earned == pytest.approx(planner.predicted_reward(levels)[0] - nothing)


def test_the_accuracy_that_is_promised_is_what_the_trials_had(ran: Desk) -> None:
    planner = pipeline.environment(runs=ran.runs).planner
    with pipeline.open_run(runs=ran.runs) as run:
        known = {trial.plan.levels: trial.candidate.accuracy for trial in run.trials() if trial.candidate is not None}
    levels = np.array([[LEVELS.index(level) for level in plan] for plan in known])
    np.testing.assert_allclose(planner.accuracy.expected(levels), list(known.values()), atol=0.1)


def test_a_run_that_stored_no_problem_says_what_to_do(tmp_path: Path, ran: Desk) -> None:
    with pytest.raises(UserError, match="start a new run"):
        pipeline.environment(finished_run(tmp_path), runs=tmp_path)


def test_plans_of_single_weights_are_no_levels(tmp_path: Path, ran: Desk) -> None:
    shutil.copytree(ran.runs, tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("UPDATE facts SET json = replace(json, 'latency', 'density') WHERE key = 'planned for 1'")
    with pytest.raises(UserError, match="single weights"):
        pipeline.environment(runs=tmp_path / "runs")
