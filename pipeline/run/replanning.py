"""Replanning: plans for other targets, by what a run of before has measured and learnt; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import StoreError, UserError
from pipeline.measurement.relative_costs import trial_costs, violation
from pipeline.predictors.accuracy import AccuracyModel
from pipeline.records import Figures, PruningPlan, SearchSpace, Trial
from pipeline.run.base_model import figure_of
from pipeline.run.problem import learn_costs, stored_problem
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import Planner, indices
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategy import Problem
from pipeline.store import Store
from pipeline.store.conditions import conditions_of
from pipeline.store.facts import BASE, PLANNED_FOR, POLICY
from pipeline.store.new_run import federated_policy
from pipeline.store.settings import config_of
from pipeline.store.spaces import require_plan
from pipeline.targets import Metric, Target

Whose = Literal["own", "federated"]


def learnt_planner(store: Store) -> Planner:
    """Return the planner of a run's last round, its cost and accuracy models fitted to all trials of that round.

    Raises:
        UserError: the run did not come so far, is of an older version, or made plans of single weights.
        StoreError: it is damaged.
    """
    number = last_round(store)
    if "density" in store.required(PLANNED_FOR.of(number))["limits"]:
        raise UserError(f"run {store.id} has a target of density: its plans are of single weights, not of levels")
    try:
        problem = stored_problem(store, number)
        return Planner(problem, _learnt(store, number, problem))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"run {store.id} is damaged: nothing can be planned by what it holds ({error})") from error


@dataclass(frozen=True, slots=True)
class TaughtDqn:
    """A DQN that was told all trials of a run's round, and the problem whose cost model learnt from them."""

    strategy: Dqn
    problem: Problem
    trials: Sequence[Trial]


def taught_dqn(store: Store, number: int, policy: bytes | None) -> TaughtDqn:
    """Return a DQN that knows what a run's round has measured, whichever strategy measured it.

    Args:
        store: the run's.
        number: of the round.
        policy: the network that it begins with, a safetensors file; None: one that has learnt nothing.

    Raises:
        StoreError: a trial does not fit the round's space.
        ArithmeticError, LookupError, TypeError, ValueError: the run is damaged otherwise.
    """
    problem = replace(stored_problem(store, number), policy=policy)
    settings = problem.settings if isinstance(problem.settings, Settings) else Settings()
    strategy = Dqn(replace(problem, settings=settings, mode="imagined"))
    trials = [trial for trial in store.trials() if trial.round == number]
    base_bytes = store.required(BASE).size_bytes
    for trial in trials:
        require_plan(store, problem.space, trial.plan, f"trial {trial.index}")
        learn_costs(problem.costs, trial, base_bytes)
        strategy.tell(trial)
    return TaughtDqn(strategy, problem, trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """A plan for targets that a run did not search for."""

    plan: PruningPlan
    round: int
    space: SearchSpace
    limits: Mapping[Metric, float]
    """Shares of the base model's figures."""
    accuracy: float
    """As predicted, before fine-tuning: of the base's, if the metric is one."""
    costs: Mapping[Metric, float]
    """As predicted, over the base model's."""
    policy: str
    """Whose it is: of the run, or trained now on its models, or of a federation of sites."""
    searched: Trial | None
    """The best trial of the run that met these targets as measured; None: no trial did."""
    condition: str = ""
    """Of the data, for which it is; empty: the run has none."""


def replan(store: Store, targets: Sequence[Target], condition: str | None = None, whose: Whose = "own") -> Replanned:
    """Return the plan of a run's policy for other targets, in the metrics that the run had targets for.

    The models are fitted to all trials of the last round. The network is the one that the run keeps; of a run that
    keeps none it is trained now, on simulated episodes alone.

    Args:
        store: the run's.
        targets: what the plan is to meet.
        condition: of the data, by the name that the run has it by; None: the only one.
        whose: the policy: the run's own, or of the federation of sites that it took part in.

    Raises:
        UserError: the run did not come so far, had no target in such a metric, or has other conditions.
        StoreError: it is damaged.
    """
    number = last_round(store)
    under = _condition_of(store, condition)
    base, planned_for = store.required(BASE), store.required(PLANNED_FOR.of(number))["limits"]
    limits = {target.metric: target.share(_figure(base, target)) for target in targets}
    for metric in limits:
        if metric not in planned_for or metric == "density":
            known = ", ".join(m for m in planned_for if m != "density") or "none"
            raise UserError(f"run {store.id} had no target of {metric}: nothing is known of it; it had: {known}")
    policy = _policy_of(store, number, whose)
    try:
        learnt = taught_dqn(store, number, policy)
        problem, trials, strategy = learnt.problem, learnt.trials, learnt.strategy
        tightened = {metric: limit * (1 - problem.margin) for metric, limit in limits.items()}
        plan, predicted = strategy.planned(tightened, is_trained=policy is not None, condition=under)
        judged = [trial.under(under) for trial in trials] if under else trials
        bases = {one.name: one.base_accuracy for one in problem.conditions}
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"run {store.id} is damaged: nothing can be planned by what it holds ({error})") from error
    return Replanned(
        plan=plan, round=number, space=problem.space, limits=limits,
        accuracy=float(predicted.accuracy[0]) * bases.get(under, problem.base_accuracy),
        costs={metric: float(values[0]) for metric, values in predicted.costs.items()},
        policy=_said(whose, policy),
        searched=_best_within(judged, limits, base), condition=under,
    )  # fmt: skip


def _policy_of(store: Store, number: int, whose: Whose) -> bytes | None:
    """Return a policy file; None: the run keeps none of its own."""
    if whose == "own":
        blob = store.get(POLICY.of(number))
        return None if blob is None else store.blob(blob).read_bytes()
    return federated_policy(store)


def _said(whose: Whose, policy: bytes | None) -> str:
    if whose == "federated":
        return "the federation's"
    return "the run's" if policy is not None else "trained now on the run's models"


def _condition_of(store: Store, wanted: str | None) -> str:
    """Return the condition that a plan is to be for; "" where the run has none."""
    names = conditions_of(store)
    if wanted is None and len(names) < 2:
        return "".join(names)
    if wanted not in names:
        found = f"no condition {wanted}" if wanted else f"a plan for each of {len(names)} conditions"
        fix = f"name one: --condition {names[0]}" if names else "leave --condition out"
        raise UserError(f"run {store.id} has {found}; it has: {', '.join(names) or 'none'}; {fix}")
    return wanted


def _figure(base: Figures, target: Target) -> float:
    """Return what an absolute target is read against."""
    try:
        return 1.0 if target.relative else figure_of(base, target.metric)
    except ValueError as error:
        raise UserError(f"{error} of the base model; say the target as a share, such as 0.5x") from error


def _best_within(trials: Sequence[Trial], limits: Mapping[Metric, float], base: Figures) -> Trial | None:
    """Return the most accurate trial that met the targets as measured."""
    found = [
        (trial.candidate.accuracy, -trial.index, trial)
        for trial in trials
        if trial.candidate is not None
        and trial.failure is None
        and (costs := trial_costs(trial, base.size_bytes)) is not None
        and violation(costs, limits) == 0
    ]
    return max(found)[-1] if found else None


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


def last_round(store: Store) -> int:
    """Return the number of the last round that came to its search.

    Raises:
        UserError: none did.
    """
    rounds = range(config_of(store).rounds, 0, -1)
    number = next((n for n in rounds if store.get(PLANNED_FOR.of(n)) is not None), None)
    if number is None:
        raise UserError(
            f"run {store.id} ({store.status}) has no search to plan anew: it ended before that, or an older version "
            "made it; start a new run"
        )
    return number
