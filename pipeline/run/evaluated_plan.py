"""A plan evaluated and measured once, as a trial of the finished run that it comes from would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import UserError
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Listener, Stage
from pipeline.measurement.feasibility import certainly_meets
from pipeline.records import Candidate, Measurement
from pipeline.run.base_model import make_base
from pipeline.run.decisions import with_decisions
from pipeline.run.replanning import Replanned
from pipeline.run.round import builder_of
from pipeline.run.runner import Prepared
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """What became of a plan."""

    candidate: Candidate
    """Its accuracy is of the search split, before fine-tuning, under the condition that the plan is for."""
    measurement: Measurement
    meets: bool
    """Whether it meets the targets beyond the measurement's doubt."""


def evaluate_plan(
    ready: Prepared, store: Store, found: Replanned, *, listen: Listener, stopping: Callable[[], bool]
) -> EvaluatedPlan:
    """Cut the run's base model by a plan, read its accuracy, and measure it in several processes.

    Raises:
        UserError: the run had several rounds, whose later ones cut another network than the base model.
        CandidateError: the network cannot be made or measured.
        DeviceError: the device was lost.
    """
    if found.round > 1:
        raise UserError(f"run {store.id} had {found.round} rounds; a plan of a later one is not measured: --no-measure")
    context = ready.context(store, listen=listen, stopping=stopping)
    base = make_base(context, ready.inputs.model)
    context = with_decisions(context, base)
    builder = replace(builder_of(context, base.network, found.space), space=found.space)
    listen(Stage("Cut, fit and evaluate the plan"))
    built = builder.build(found.plan)
    candidate = built.candidate
    if found.condition:
        candidate = replace(candidate, accuracy=candidate.accuracies[found.condition])
    listen(Stage("Measure it beside the base model"))
    bench = Bench(context.boards, store, base.skeleton, round=found.round, limits=found.limits)
    measured = bench.remeasure(builder.skeleton(found.plan.levels))
    return EvaluatedPlan(candidate, measured, certainly_meets(measured, found.limits))
