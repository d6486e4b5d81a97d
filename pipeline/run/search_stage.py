"""One search over one space: whether its targets can be met, the verdict on each trial, what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from pipeline import plugins, serialization
from pipeline.devices.agent_client import Agent
from pipeline.errors import MeasureError, TargetError
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Stage, Tried
from pipeline.measurement import retries
from pipeline.measurement.feasibility import deviations
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.surgery.weight_sparsity import THRESHOLDS, density
from pipeline.records import Candidate, Trial
from pipeline.run.base_model import Base, measured_shares
from pipeline.run.context import Context
from pipeline.run.inputs import STRATEGIES
from pipeline.run.loop import search
from pipeline.search.planner import Indices, Planner, indices
from pipeline.search.reward import ratios_of, reward, violation
from pipeline.search.strategy import Problem
from pipeline.store.device_usage import Usage, Watch
from pipeline.targets import Metric, Target

OVERLAP = 0.35
"""Share of what single cuts save by themselves that the deepest cut may lack: of a network of 19 µs on a PC, whose
single cuts added up to all of it, a third was left, what a call costs by itself."""
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

    def require_reachable(self) -> None:
        """Measure the deepest legal cut where the cost tables doubt that it is deep enough.

        Raises:
            TargetError: even that cut misses a target; says how near it comes.
        """
        if self.problem.spreads:
            self._require_enough_below()
            return
        planner = Planner(self.problem)
        levels = planner.blank(1)
        for step in range(planner.groups):
            levels[:, step] = planner.deepest(levels, step)
        if self._surely_within(levels):
            return
        built = self.builder.build(planner.plan(levels[0]))
        measurement = self.bench.probe(built.candidate.key, lambda: built.probe)
        if measurement is None:  # nothing is known for sure: the search will tell
            return
        shares = measured_shares(measurement, built.candidate.size_bytes / self.base.figures.size_bytes)
        for metric, limit in self.limits.items():
            if shares.get(metric, 0.0) > limit:
                raise TargetError(
                    f"target {self._told(metric)} cannot be met: cut as deep as this network allows, it still has "
                    f"{self._shown(metric, shares[metric])} on {self.bench.agent.device.name}, as measured; choose a "
                    "target above that, or a smaller network"
                )

    def _require_enough_below(self) -> None:
        """Require that the highest threshold leaves few enough weights; nothing has to be measured for that."""
        least = density(self.problem.spreads, [spread.below[-1] for spread in self.problem.spreads])
        if least > self.limits["density"]:
            raise TargetError(
                f"target {self._told('density')} cannot be met: with all weights below {THRESHOLDS[-1]:g} standard "
                f"deviations of their layer at zero, {self._shown('density', least)} are left; choose a target above "
                "that, or protect fewer layers (cuts: protect)"
            )

    def _surely_within(self, levels: Indices) -> bool:
        """Return whether a plan meets every target even if its groups' savings overlap; those in size never do."""
        predicted = self.problem.costs.predict(levels)
        return all(
            cost + (0.0 if metric == "size" else OVERLAP * (1 - cost)) <= limit
            for metric, limit in self.problem.limits.items()
            if metric in predicted
            for cost in (float(predicted[metric][0]),)
        )

    def trials(self) -> list[Trial]:
        """Return all trials of this round, those of an earlier part of the run included.

        Raises:
            MeasureError: several candidates in a row failed: something is wrong that no other plan mends.
            StoppedError: the user asked to stop.
        """
        context, number = self.context, self.bench.round
        config, store = context.config, context.store
        known = {t.index: t for t in store.trials() if t.round == number}
        title = f"Search with {config.strategy}" + (f", round {number} of {config.rounds}" if config.rounds > 1 else "")
        context.listen(Stage(title, config.trials))
        found: list[Trial] = []
        watch = Watch()
        with self._usage_kept(watch), _beside_measuring(context.agent):
            self._try_all(found, known, watch)
        context.stop_if_asked()
        return found

    def _try_all(self, found: list[Trial], known: Mapping[int, Trial], watch: Watch) -> None:
        """Append each trial of this round to ``found`` as it is through."""
        context, number, config = self.context, self.bench.round, self.context.config
        for trial in search(
            plugins.load(STRATEGIES, config.strategy).create(self.problem),
            self.builder.build,
            self.bench.measure,
            self._judge,
            trials=config.trials,
            first=(number - 1) * config.trials,
            known=known,
            lookahead=context.agent.lookahead,
            stopping=context.stopping,
            watch=watch,
        ):
            numbered = replace(trial, round=number)
            if numbered.index not in known:
                context.store.append(numbered)
            if numbered.failure is None:
                self._learn(numbered)
            found.append(numbered)
            context.listen(Tried(numbered, replayed=numbered.index in known))
            self._stop_at_failures(found)

    def _learn(self, trial: Trial) -> None:
        """Correct what plans cost by a candidate, whose figures count by how sure they are."""
        if trial.measurement is not None:
            self.problem.costs.learn(indices(trial.plan), self._shares(trial), deviations(trial.measurement))

    @contextmanager
    def _usage_kept(self, watch: Watch) -> Iterator[None]:
        """Store how the device's time was spent, however the search ends; earlier parts of the run are added."""
        key = f"usage {self.bench.round}"
        try:
            yield
        finally:
            usage = watch.usage(shared=self.context.agent.lookahead == 0)
            if usage is not None:
                earlier = self.context.store.get(key)
                self.context.store.set(key, serialization.load(Usage, earlier) + usage if earlier else usage)

    def _stop_at_failures(self, found: list[Trial]) -> None:
        last = found[-FAILURES_IN_A_ROW:]
        if len(last) < FAILURES_IN_A_ROW or not all(trial.failure for trial in last):
            return
        message = f"{FAILURES_IN_A_ROW} candidates failed in a row, the last with: {last[-1].failure}"
        if all(trial.measurement is not None and why_invalid(trial.measurement) for trial in last):
            assert last[-1].measurement is not None  # all of them have one
            mend = retries.mend(self.bench.agent.device.name, tolerant=self.bench.tolerant)
            message += f" ({retries.explained(last[-1].measurement)}); {mend}"
        raise MeasureError(message)

    def nearest_miss(self, trials: list[Trial]) -> TargetError:
        """Return the error that says how near the trials came to the targets they all missed, to be raised."""
        wanted = ", ".join(self._told(metric) for metric in self.limits)
        allow = "allow more --trials, or a looser target"
        if met := sum(trial.feasible for trial in trials):
            return TargetError(f"{met} of {len(trials)} trials met {wanted}, none when measured longer; {allow}")
        came = []
        for metric in self.limits:
            shares = [s for t in trials if not t.failure for s in [self._shares(t).get(metric)] if s]
            if shares:
                came.append(self._shown(metric, min(shares)))
        nearest = f"; the nearest had {', '.join(came)}" if came else ""
        return TargetError(f"no candidate met {wanted} as measured{nearest}; {allow}")

    def _shares(self, trial: Trial) -> Mapping[Metric, float]:
        """Return a trial's figures over the base model's; nothing where it was not measured."""
        if trial.measurement is None or trial.candidate is None:
            return {}
        size = trial.candidate.size_bytes / self.base.figures.size_bytes
        return measured_shares(trial.measurement, size, _density(trial.candidate))

    def _judge(self, trial: Trial) -> Trial:
        """Return the trial with its reward, terms and whether it meets every target as measured."""
        assert trial.candidate is not None  # the loop judges only what was built and measured
        assert trial.measurement is not None
        base = self.base.figures
        size = trial.candidate.size_bytes / base.size_bytes
        ratios = ratios_of(
            trial.candidate.accuracy, base.search_accuracy, size, trial.measurement, base.measurement,
            density=_density(trial.candidate),
        )  # fmt: skip
        value, terms = reward(ratios, self.problem.space, trial.plan.levels, self.problem.weights, self.limits)
        return replace(trial, reward=value, terms=terms, feasible=violation(ratios, self.limits) == 0)

    def _told(self, metric: Metric) -> str:
        """Return a target as the user typed it; of several rounds, with this round's part of the way."""
        told = next(str(target) for target in self.context.config.targets if target.metric == metric)
        return told if self.context.config.rounds == 1 else f"{told} ({self.limits[metric]:.3g}x in this round)"

    def _shown(self, metric: Metric, share: float) -> str:
        if metric == "density":
            return f"{share:.3g}x of the base model's weights"
        return f"{share:.3g}x of the base model's {metric} ({_amount(metric, share * self.base.figure(metric))})"


def _density(candidate: Candidate) -> float:
    """Return the share of the weights that are not zero: of all of the base model's, where no channel was cut."""
    return 1 - (candidate.sparsity or 0.0)


@contextmanager
def _beside_measuring(agent: Agent) -> Iterator[None]:
    """Keep torch to the cores that the runtime leaves free, where the host builds on the machine that it measures."""
    before = torch.get_num_threads()
    if agent.shared and agent.lookahead:
        torch.set_num_threads(min(before, agent.free_cores))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _amount(metric: Metric, value: float) -> str:
    """Return an amount in its target's unit.

    >>> _amount("latency", 3.14159)
    '3.14ms'
    """
    return str(Target(metric, float(f"{value:.3g}"), relative=False)).partition("=")[2]
