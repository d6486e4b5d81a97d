"""Target check: can the targets be met on this device, and how near did the trials come?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import TargetError
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench
from pipeline.measurement.relative_costs import relative_costs, trial_costs
from pipeline.pruning.surgery.weight_sparsity import THRESHOLDS, density
from pipeline.records import Trial
from pipeline.run.base_model import Base
from pipeline.search.planner import Indices, Planner
from pipeline.search.strategy import Problem
from pipeline.targets import Metric, Target

OVERLAP = 0.35
"""Share of what single cuts save by themselves that the deepest cut may lack: of a network of 19 µs on a PC, whose
single cuts added up to all of it, a third was left: the fixed per-call overhead."""


@dataclass(frozen=True, kw_only=True)
class TargetCheck:
    """One round's targets, as the user typed them and as shares of the base model's figures."""

    targets: Sequence[Target]
    rounds: int
    base: Base
    limits: Mapping[Metric, float]

    def require_reachable(self, problem: Problem, builder: Builder, bench: Bench) -> None:
        """Measure the deepest legal cut where the cost tables doubt that it is deep enough.

        Raises:
            TargetError: even that cut misses a target; says how near it comes.
        """
        if problem.spreads:
            self._require_enough_below(problem)
            return
        planner = Planner(problem)
        levels = planner.empty_plans(1)
        for step in range(planner.groups):
            levels[:, step] = planner.deepest(levels, step)
        if _surely_within(problem, levels):
            return
        built = builder.build(planner.plan(levels[0]))
        measurement = bench.measure_skeleton(built.candidate.key, lambda: built.skeleton)
        if measurement is None:  # nothing is known for sure: the search will tell
            return
        costs = relative_costs(measurement, size=built.candidate.size_bytes / self.base.figures.size_bytes).known
        for metric, limit in self.limits.items():
            if costs.get(metric, 0.0) > limit:
                raise TargetError(
                    f"target {self._typed(metric)} cannot be met: cut as deep as this network allows, it still has "
                    f"{self._shown(metric, costs[metric])} on {bench.agent.device.name}, as measured; choose a "
                    "target above that, or a smaller network"
                )

    def nearest_miss(self, trials: Sequence[Trial]) -> TargetError:
        """Return the error that says how near the trials came to the targets they all missed, to be raised."""
        wanted = ", ".join(self._typed(metric) for metric in self.limits)
        allow = "allow more --trials, or a looser target"
        if met := sum(trial.feasible for trial in trials):
            return TargetError(f"{met} of {len(trials)} trials met {wanted}, none when measured longer; {allow}")
        came = []
        for metric in self.limits:
            shares = [share for trial in trials for share in [self._share(trial, metric)] if share]
            if shares:
                came.append(self._shown(metric, min(shares)))
        nearest = f"; the nearest had {', '.join(came)}" if came else ""
        return TargetError(f"no candidate met {wanted} as measured{nearest}; {allow}")

    def _require_enough_below(self, problem: Problem) -> None:
        """Require that the highest threshold leaves few enough weights; nothing has to be measured for that."""
        least = density(problem.spreads, [spread.below[-1] for spread in problem.spreads])
        if least > self.limits["density"]:
            raise TargetError(
                f"target {self._typed('density')} cannot be met: with all weights below {THRESHOLDS[-1]:g} standard "
                f"deviations of their layer at zero, {self._shown('density', least)} are left; choose a target above "
                "that, or protect fewer layers (pruning: protect)"
            )

    def _share(self, trial: Trial, metric: Metric) -> float | None:
        """Return a trial's figure over the base model's; None where it failed or was not measured."""
        costs = None if trial.failure else trial_costs(trial, self.base.figures.size_bytes)
        return None if costs is None else costs.known.get(metric)

    def _typed(self, metric: Metric) -> str:
        """Return a target as the user typed it; of several rounds, with this round's part of the way."""
        typed = next(str(target) for target in self.targets if target.metric == metric)
        return typed if self.rounds == 1 else f"{typed} ({self.limits[metric]:.3g}x in this round)"

    def _shown(self, metric: Metric, share: float) -> str:
        if metric == "density":
            return f"{share:.3g}x of the base model's weights"
        return f"{share:.3g}x of the base model's {metric} ({_amount(metric, share * self.base.figure(metric))})"


def _surely_within(problem: Problem, levels: Indices) -> bool:
    """Return whether a plan meets every target even if its groups' savings overlap; those in size never do."""
    predicted = problem.costs.predict(levels)
    return all(
        cost + (0.0 if metric == "size" else OVERLAP * (1 - cost)) <= limit
        for metric, limit in problem.limits.items()
        if metric in predicted
        for cost in (float(predicted[metric][0]),)
    )


def _amount(metric: Metric, value: float) -> str:
    """Return an amount in its target's unit.

    >>> _amount("latency", 3.14159)
    '3.14ms'
    """
    return str(Target(metric, float(f"{value:.3g}"), relative=False)).partition("=")[2]
