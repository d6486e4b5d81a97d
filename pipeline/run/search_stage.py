"""Search stage: trials of one space on one device, the verdict on each, what is kept of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from pipeline.devices.agent_client import Agent
from pipeline.errors import MeasureError
from pipeline.evaluation.candidate_builder import Builder, Built
from pipeline.evaluation.candidate_task import BuildCandidate, RoundInputs
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage, Tried
from pipeline.measurement import retries
from pipeline.measurement.relative_costs import RelativeCosts, trial_costs, violation
from pipeline.measurement.validity import why_invalid
from pipeline.records import Candidate, PruningPlan, Trial
from pipeline.report.fleet import sentences
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.loop import search
from pipeline.run.problem import learn_costs
from pipeline.search.planner import indices
from pipeline.search.reward import AfterEachGroup, require_comparable, reward
from pipeline.search.strategy import Carrying, Learning, Problem, Strategy
from pipeline.search.strategy_plugin import strategy_of
from pipeline.store.decisions import uncut
from pipeline.store.device_usage import Watch
from pipeline.store.facts import CARRIED, LEARNT, POLICY, USAGE
from pipeline.targets import Metric
from pipeline.workers.executor import Shared, in_order

FAILURES_IN_A_ROW = 5


@dataclass(frozen=True, kw_only=True)
class Search:
    """Candidates of one space, tried on one device, towards limits that are shares of the base model's figures."""

    context: Context
    base: Base
    builder: Builder
    bench: Bench
    limits: Mapping[Metric, float]
    problem: Problem
    inputs: Shared[RoundInputs] | None = None
    """What workers make candidates of, where they share it with others."""
    _evaluated: dict[str, Candidate] = field(default_factory=dict)
    """Plans that are cut up to some group, by the key of their network."""

    def trials(self) -> list[Trial]:
        """Return all trials of this round, those of an earlier part of the run included.

        Raises:
            MeasureError: several candidates in a row failed: something is wrong that no other plan fixes.
            StoppedError: the user asked to stop.
        """
        context, number = self.context, self.bench.round
        config, store = context.config, context.store
        known = {t.index: t for t in store.trials() if t.round == number}
        title = f"Search with {config.strategy}" + (f", round {number} of {config.rounds}" if config.rounds > 1 else "")
        context.listen(Stage(title, config.trials))
        found: list[Trial] = []
        watch = Watch()
        with self._usage_kept(watch), _torch_on_free_cores(context.agent):
            self._try_all(found, known, watch)
        context.stop_if_requested()
        if context.boards.several:
            for sentence in sentences(self.bench.readings.fleet()):
                context.listen(Note(f"boards: {sentence}"))
        return found

    def _try_all(self, found: list[Trial], known: Mapping[int, Trial], watch: Watch) -> None:
        """Append each trial of this round to ``found`` as it is through."""
        context, number, config = self.context, self.bench.round, self.context.config
        strategy = strategy_of(config).create(self.problem)
        numbers = itertools.count((number - 1) * config.trials + len(known))
        for trial in search(
            strategy,
            lambda plan: self._built(plan, f"candidate {next(numbers)}"),
            self.bench.measure,
            self.judge,
            trials=config.trials,
            first=(number - 1) * config.trials,
            known=known,
            given=self._given(),
            lookahead=context.lookahead,
            boards=len(context.boards.names),
            stopping=context.stopping,
            watch=watch,
        ):
            numbered = replace(trial, round=number)
            if numbered.index not in known:
                context.store.append(numbered)
                self._keep_fleet()
            learn_costs(self.problem.costs, numbered, self.base.figures.size_bytes)
            found.append(numbered)
            metric = context.data.task.metric_name
            context.listen(Tried(numbered, replayed=numbered.index in known, metric=metric))
            self._stop_at_failures(found)
        self._keep_what_was_learnt(strategy)

    def _keep_fleet(self) -> None:
        """Store by what the run's boards differ, where there are several."""
        if self.context.boards.several:
            self.bench.readings.remember()

    def _built(self, plan: PruningPlan, what: str) -> Future[Built]:
        """Return what comes of building a candidate; in this process it is built when this returns."""
        context = self.context
        task = BuildCandidate(plan, context.task_threads)
        return context.workers.submit(lambda: task, self._shared, what=what, tell=context.listen)

    @cached_property
    def _shared(self) -> Shared[RoundInputs]:
        return self.inputs or Shared(RoundInputs(self.builder, self.base.network))

    def _keep_what_was_learnt(self, strategy: Strategy) -> None:
        """Store the network of a strategy that has one, and how it learnt; and what it hands to the next round."""
        store, number = self.context.store, self.bench.round
        if isinstance(strategy, Carrying):
            store.set(CARRIED.of(number), dict(strategy.carried()))
        if isinstance(strategy, Learning):
            store.set(LEARNT.of(number), list(strategy.learnt()))
            store.set(POLICY.of(number), store.put_blob(strategy.policy()))

    def _given(self) -> list[PruningPlan]:
        """Return the uncut network, where it is another than the base: in INT8 or FP16 it may meet the target alone."""
        if uncut(self.context.store) is None or self.bench.round > 1:
            return []
        levels = tuple(0 for _ in self.builder.space.groups)
        return [PruningPlan(levels=levels, criterion=self.context.config.criterion)]

    @contextmanager
    def _usage_kept(self, watch: Watch) -> Iterator[None]:
        """Store how the device's time was spent, however the search ends; earlier parts of the run are added."""
        fact = USAGE.of(self.bench.round)
        try:
            yield
        finally:
            usage = watch.usage(shared=self.context.lookahead == 0)
            if usage is not None:
                earlier = self.context.store.get(fact)
                self.context.store.set(fact, earlier + usage if earlier else usage)

    def _stop_at_failures(self, found: list[Trial]) -> None:
        last = found[-FAILURES_IN_A_ROW:]
        if len(last) < FAILURES_IN_A_ROW or not all(trial.failure for trial in last):
            return
        message = f"{FAILURES_IN_A_ROW} candidates failed in a row, the last with: {last[-1].failure}"
        if all(trial.measurement is not None and why_invalid(trial.measurement) for trial in last):
            assert last[-1].measurement is not None  # all of them have one
            fix = retries.fix_hint(self.bench.agent.device.name, tolerant=self.bench.tolerant)
            message += f" ({retries.explain_flags(last[-1].measurement)}); {fix}"
        raise MeasureError(message)

    def judge(self, trial: Trial) -> Trial:
        """Return the trial with its reward, terms and whether it meets every target as measured."""
        assert trial.candidate is not None  # the loop judges only what was built and measured
        assert trial.measurement is not None
        base = self.base.figures
        require_comparable(trial.measurement, base.measurement)
        costs = trial_costs(trial, base.size_bytes)
        assert costs is not None
        value, terms = self._reward(trial.plan, trial.candidate, costs, "")
        under = {name: self._reward(trial.plan, trial.candidate, costs, name)[0] for name in trial.candidate.accuracies}
        feasible = violation(costs, self.limits) == 0
        return replace(trial, reward=value, terms=terms, feasible=feasible, rewards=under)

    def _reward(
        self, plan: PruningPlan, candidate: Candidate, costs: RelativeCosts, condition: str
    ) -> tuple[float, dict[str, float]]:
        """Return the reward and its terms: under a condition of the data, or "", of the mean accuracy over them."""
        problem = self.problem
        accuracy = self._relative(candidate, condition)
        after = self._after_each_group(plan, accuracy, costs.power, condition) if problem.weights.differ else None
        return reward(accuracy, costs, problem.space, plan.levels, problem.weights, self.limits, after)

    def _relative(self, candidate: Candidate, condition: str) -> float:
        """Return a candidate's accuracy over the base model's under the same condition."""
        found = candidate.accuracies[condition] if condition else candidate.accuracy
        return found / self._base_accuracy[condition]

    @cached_property
    def _base_accuracy(self) -> dict[str, float]:
        known = {one.name: one.base_accuracy for one in self.problem.conditions}
        return {"": self.base.figures.search_accuracy, **known}

    def _after_each_group(
        self, plan: PruningPlan, accuracy: float, power: float | None, condition: str
    ) -> AfterEachGroup:
        """Return what each group's step changed: accuracy as the host evaluates it, of power a share of the measured.

        The power of a plan is measured once, as a whole; each group's share of the change is as its single cut's.
        """
        groups = len(plan.levels)
        begun = [replace(plan, levels=plan.levels[:n] + (0,) * (groups - n)) for n in range(1, groups)]
        accuracies = [self._relative(one, condition) for one in self._candidates_of(begun)]
        powers = None if power is None else self.problem.costs.split("power", indices(plan), power)
        return AfterEachGroup([*accuracies, accuracy], powers)

    def _candidates_of(self, plans: Sequence[PruningPlan]) -> list[Candidate]:
        """Return plans evaluated on the host; each network is so once."""
        keys = [self.problem.space.network_key(plan) for plan in plans]
        new = {key: plan for key, plan in zip(keys, plans, strict=True) if key not in self._evaluated}

        def submitted(key: str) -> Future[Built]:
            return self._built(new[key], "a part of a plan")

        for key, future in in_order(self.context.workers, submitted, new):
            self._evaluated[key] = future.result().candidate
        return [self._evaluated[key] for key in keys]


@contextmanager
def _torch_on_free_cores(agent: Agent) -> Iterator[None]:
    """Keep torch to the cores that the runtime leaves free, where the host builds on the machine that it measures."""
    before = torch.get_num_threads()
    if agent.shared and agent.lookahead:
        torch.set_num_threads(min(before, agent.free_cores))
    try:
        yield
    finally:
        torch.set_num_threads(before)
