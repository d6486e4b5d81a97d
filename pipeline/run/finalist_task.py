"""Finalist as a task of a worker: cut and fitted, or as the rung before has left it, then trained and validated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from safetensors.torch import load
from torch import fx

from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.candidate_task import RoundInputs, set_up
from pipeline.events import Stage
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.surgery.prune import prune
from pipeline.records import PruningPlan
from pipeline.run.training_course import Course, announce, train
from pipeline.training.accelerator import Accelerator, Wanted, open_accelerator
from pipeline.training.score import score
from pipeline.workers.executor import Tell


@dataclass(frozen=True, slots=True)
class TrainedFinalist:
    """What a rung has made of a finalist."""

    weights: bytes = field(repr=False)
    """A safetensors file."""
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class TrainFinalist:
    """Train one finalist by one rung; raises CandidateError, and StoppedError where the run is to stop."""

    plan: PruningPlan
    index: int
    """Of its trial."""
    weights: bytes | None = field(repr=False)
    """That the rung before has left; None: it is cut and fitted anew."""
    course: Course
    accelerator: Wanted
    half_on: frozenset[str]
    """Kinds of device on which half precision is computed in."""
    threads: int
    trains: ClassVar[bool] = True

    def __call__(self, inputs: RoundInputs, tell: Tell) -> TrainedFinalist:
        """Return its weights and its score on the validation split."""
        set_up(self.threads)
        builder = inputs.builder
        data, network = builder.data, self._begun(builder, tell)
        if self.course.settings.epochs > 0:
            announce(self.course, data.train, data.search, tell)
            train(
                self.course, network, data.train, data=data, on=self._accelerator(), teacher=inputs.teacher,
                judge=data.search, tell=tell,
            )  # fmt: skip
        return TrainedFinalist(weights_bytes(network), score(network, data.val, data.task))

    def _begun(self, builder: Builder, tell: Tell) -> fx.GraphModule:
        if self.weights is None:
            tell(Stage(f"Cut finalist {self.index} and fit its layers"))
            return builder.finalist(self.plan)
        return with_weights(builder, self.plan, self.weights)

    def _accelerator(self) -> Accelerator:
        on = open_accelerator(self.accelerator)
        return on if on.device.type in self.half_on else replace(on, half=None)


def with_weights(builder: Builder, plan: PruningPlan, weights: bytes) -> fx.GraphModule:
    """Return a plan's network with weights of a safetensors file."""
    network = prune(builder.base, builder.space, plan.levels, builder.ranking, builder.example)
    network.load_state_dict(load(weights))
    return network.eval()
