"""Replanning: the planner of a run of before, by the models that its trials have taught; nothing is measured."""

from __future__ import annotations

from pipeline.errors import StoreError, UserError
from pipeline.predictors.accuracy import AccuracyModel
from pipeline.run.problem import learn_costs, stored_problem
from pipeline.search.planner import Planner, indices
from pipeline.search.strategy import Problem
from pipeline.store import Store
from pipeline.store.facts import BASE, PLANNED_FOR
from pipeline.store.settings import config_of
from pipeline.store.spaces import require_plan


def learnt_planner(store: Store) -> Planner:
    """Return the planner of a run's last round, its cost and accuracy models fitted to all trials of that round.

    Raises:
        UserError: the run did not come so far, is of an older version, or made plans of single weights.
        StoreError: it is damaged.
    """
    number = _last_round(store)
    if "density" in store.required(PLANNED_FOR.of(number))["limits"]:
        raise UserError(f"run {store.id} has a target of density: its plans are of single weights, not of levels")
    try:
        problem = stored_problem(store, number)
        return Planner(problem, _learnt(store, number, problem))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"run {store.id} is damaged: nothing can be planned by what it holds ({error})") from error


def _learnt(store: Store, number: int, problem: Problem) -> AccuracyModel:
    """Return the accuracy model that trials have taught; the problem's cost model learns from them as well."""
    accuracy = AccuracyModel(problem.space, problem.base_accuracy, problem.images)
    base_bytes = store.required(BASE).size_bytes
    plans: list[list[int]] = []
    accuracies: list[float] = []
    for trial in store.trials():
        if trial.round != number or trial.candidate is None:
            continue
        require_plan(store, problem.space, trial.plan, f"trial {trial.index}")
        learn_costs(problem.costs, trial, base_bytes)
        plans.append(indices(trial.plan))
        accuracies.append(trial.candidate.accuracy)
    if plans:
        accuracy.fit(plans, accuracies)
    return accuracy


def _last_round(store: Store) -> int:
    rounds = range(config_of(store).rounds, 0, -1)
    number = next((n for n in rounds if store.get(PLANNED_FOR.of(n)) is not None), None)
    if number is None:
        raise UserError(
            f"run {store.id} ({store.status}) has no search to plan anew: it ended before that, or an older version "
            "made it; start a new run"
        )
    return number
