"""Finalists: the best trials of a round, held against the targets once more, trained, made artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property, partial

from torch import fx

from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.candidate_task import RoundInputs
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage, StageProgress
from pipeline.measurement.feasibility import certainly_meets, ratios
from pipeline.measurement.relative_costs import relative_costs, violation
from pipeline.measurement.validity import why_invalid
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.records import FULL, Artifact, Candidate, Figures, Measurement, PruningPlan, Trial
from pipeline.run.artifact_builder import ArtifactBuilder
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.finalist_task import TrainedFinalist, TrainFinalist, with_weights
from pipeline.run.full_training import full_training
from pipeline.run.successive_halving import Rung
from pipeline.run.training_stage import course_of, discard_checkpoint, half_precision_on, hearing
from pipeline.search.reward import require_comparable
from pipeline.store.facts import RUNG, TrainedRung
from pipeline.targets import Metric
from pipeline.training.score import score
from pipeline.training.settings import FineTuning
from pipeline.workers.executor import Shared, in_order

Climb = tuple[Trial, Callable[[], float]]
"""A finalist, and what waits for the end of its rung: returns its accuracy on the validation split."""


@dataclass(frozen=True, kw_only=True)
class Finalists:
    """What turns a round's best trials into artifacts; each finished one is in the store at once."""

    context: Context
    builder: Builder
    bench: Bench
    base: Base
    """The teacher, too: the network as the user brought it."""
    limits: Mapping[Metric, float]
    inputs: Shared[RoundInputs] | None = None
    """What workers make finalists of, where they share it with others."""

    @property
    def artifacts(self) -> ArtifactBuilder:
        """What makes trained networks artifacts."""
        return ArtifactBuilder(context=self.context, builder=self.builder, bench=self.bench, limits=self.limits)

    def name(self, trial: Trial) -> str:
        """Return the id of a finalist's artifact, and of its training."""
        condition = self.context.condition.replace(":", "-")
        return f"r{self.bench.round}t{trial.index}" + (f"-{condition}" if condition else "")

    def training(self, trial: Trial, rungs: Sequence[Rung], number: int) -> str:
        """Return the name of a finalist's training in one rung; that of the last one is the artifact's."""
        last = number == len(rungs) - 1
        return self.name(trial) if last else f"{self.name(trial)}-rung{number + 1}"

    def confirm(self, trial: Trial) -> Trial | None:
        """Return a trial that meets every target; None: it misses one.

        Where that is not sure (see ``measurement.feasibility``), it is measured anew in several processes, and that
        alone counts: what it was picked by is low by luck.
        """
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        if certainly_meets(trial.measurement, self.limits):
            return trial
        self.context.stop_if_requested()
        self.context.listen(Stage(f"Measure candidate {trial.index} longer: too near the target to tell"))
        again = self.bench.remeasure(self.builder.skeleton(trial.plan.levels))
        measured = trial.measurement if why_invalid(again) else again
        problem = f"candidate {trial.index} misses the target, measured longer"
        meets = self._meets(measured, trial.candidate.size_bytes, trial.candidate.sparsity, problem)
        return replace(trial, measurement=measured) if meets else None

    def climb(self, trials: Sequence[Trial], rungs: Sequence[Rung], number: int) -> Iterator[Climb]:
        """Yield finalists, trained by one rung, the rungs before being over; side by side where workers train them.

        A rung that was finished before the run was resumed is not trained again.
        """
        workers = self.context.workers
        if workers.is_elsewhere and len(trials) > 1:
            which = f", rung {number + 1} of {len(rungs)}" if len(rungs) > 1 else ""
            self.context.listen(Stage(f"Fine-tune {len(trials)} finalists side by side{which}", len(trials)))
        begun = in_order(workers, lambda trial: self._begin_rung(trial, rungs, number), trials)
        for done, (trial, future) in enumerate(begun, 1):
            yield trial, partial(self._finish_rung, self.training(trial, rungs, number), future)
            if workers.is_elsewhere and len(trials) > 1:
                self.context.listen(StageProgress(done))

    def train_rung(self, trial: Trial, rungs: Sequence[Rung], number: int) -> float:
        """Train a finalist by one rung, the rungs before being over; return its accuracy on the validation split."""
        ((_, score),) = self.climb([trial], rungs, number)
        return score()

    def fine_tune_short(self, trial: Trial) -> Artifact:
        """Return a finalist that has climbed all rungs, its whole file verified and measured on the device."""
        name = self.name(trial)
        if known := self._known(name):
            return known
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        climbed = self.context.store.required(RUNG.of(name))
        before = figures_before(trial.candidate, trial.measurement)
        artifact = Artifact(
            id=name, trial=trial.index, plan=trial.plan, key=trial.key, files={}, before=before, after=before,
            device_accuracy=None, host_accuracy=None, round=self.bench.round,
            validation_accuracy=climbed["validation_accuracy"], condition=self.context.condition,
        )  # fmt: skip
        return self.artifacts.build(artifact, self._loaded(trial.plan, climbed["weights"]))

    def fine_tune_full(self, brief: Artifact) -> Artifact:
        """Return a finalist, trained in full: see ``full_training``."""
        name = f"{brief.id}{FULL}"
        if known := self._known(name):
            return known
        last = self.bench.round == self.context.config.rounds and not self.context.compared
        network, full = self.network(brief), full_training(self.context, last=last)
        full.train(
            self.context, network, self.base.network, name=name, title=f"Fine-tune the chosen one, {brief.trial}",
            hold_zeros=bool(brief.plan.zeros),
        )  # fmt: skip
        # Splits that have been trained on say nothing any more: there the brief one's figures stay.
        unseen = full.judge is not None
        validation = self._validated(network) if unseen else brief.validation_accuracy
        artifact = replace(brief, id=name, validation_accuracy=validation)
        built = self.artifacts.build(artifact, network, None if unseen else brief.after.search_accuracy)
        self._warn_of_miss(built)
        return built

    def meets_targets(self, artifact: Artifact) -> bool:
        """Return whether the whole file meets every target, as measured beside the base model; says so if not.

        Asked of a finalist before it is fine-tuned in full. What is measured after that decides nothing any more, so
        that no luck is in the figures that the user is given.
        """
        after = artifact.after
        problem = f"finalist {artifact.trial} misses the target as a whole file"
        return self._meets(after.measurement, after.size_bytes, after.sparsity, problem)

    def announce(self, scores: Mapping[str, float]) -> None:
        """Say how finalists compare on the validation split, the best first."""
        ranked = ", ".join(f"{name} {score:.1%}" for name, score in sorted(scores.items(), key=lambda s: -s[1]))
        task = self.context.data.task
        named = "" if task.puts_into_classes else f", {task.metric_name}"
        self.context.listen(Note(f"on the validation split{named}: {ranked}"))

    def network(self, artifact: Artifact) -> fx.GraphModule:
        """Return an artifact's network with its stored weights."""
        return self._loaded(artifact.plan, artifact.files[WEIGHTS])

    # ------------------------------------------------------------ helpers

    @cached_property
    def _shared(self) -> Shared[RoundInputs]:
        return self.inputs or Shared(RoundInputs(self.builder, self.base.network))

    def _begin_rung(self, trial: Trial, rungs: Sequence[Rung], number: int) -> Future[TrainedFinalist] | None:
        """Return what will come of a finalist's rung; None: it is stored."""
        context, name = self.context, self.training(trial, rungs, number)
        context.stop_if_requested()
        if context.store.get(RUNG.of(name)):
            return None
        which = f", rung {number + 1} of {len(rungs)}" if len(rungs) > 1 else ""
        title, settings = f"Fine-tune finalist {trial.index}{which}", rungs[number].settings
        half_on, threads, weights = self._half_on(settings), context.task_threads, None
        if number > 0:
            before = context.store.required(RUNG.of(self.training(trial, rungs, number - 1)))
            weights = context.store.blob(before["weights"]).read_bytes()

        def begin() -> TrainFinalist:
            return TrainFinalist(
                plan=trial.plan, index=trial.index, weights=weights, half_on=half_on, threads=threads,
                course=course_of(context, settings, name=name, title=title, hold_zeros=bool(trial.plan.zeros)),
                accelerator=context.config.accelerator,
            )  # fmt: skip

        return context.workers.submit(begin, self._shared, what=f"finalist {trial.index}", tell=hearing(context, name))

    def _finish_rung(self, name: str, future: Future[TrainedFinalist] | None) -> float:
        """Wait for a finalist, store its weights, and return its accuracy on the validation split."""
        store = self.context.store
        if future is None:
            return store.required(RUNG.of(name))["validation_accuracy"]
        trained = future.result()
        weights = store.put_blob(trained.weights)
        store.set(RUNG.of(name), TrainedRung(weights=weights, validation_accuracy=trained.validation_accuracy))
        discard_checkpoint(self.context, name)
        return trained.validation_accuracy

    def _half_on(self, settings: FineTuning) -> frozenset[str]:
        if settings.epochs == 0:
            return frozenset()
        return half_precision_on(self.context, self.base.network, self.context.data.train, settings, self.base.network)

    def _loaded(self, plan: PruningPlan, weights: str) -> fx.GraphModule:
        return with_weights(self.builder, plan, self.context.store.blob(weights).read_bytes())

    def _validated(self, network: fx.GraphModule) -> float:
        return score(network, self.context.data.val, self.context.data.task)

    def _known(self, name: str) -> Artifact | None:
        """Return an artifact that was finished before the run was resumed."""
        self.context.stop_if_requested()
        return next((a for a in self.context.store.artifacts() if a.id == name), None)

    def _warn_of_miss(self, full: Artifact) -> None:
        """Say where the fresh measurement of the chosen one lies beyond a target, as that of every second one at it."""
        after = full.after
        if self._violation(after.measurement, after.size_bytes, after.sparsity):
            said = "measured afresh, the chosen one is beyond a target that it met when it was chosen"
            self.context.listen(Note(f"{said}: {self._describe_violations(after.measurement)}"))

    def _meets(self, measurement: Measurement, size_bytes: int, sparsity: float | None, problem: str) -> bool:
        """Return whether a network meets every target as measured beside the base model; if not, says ``problem``."""
        if self._violation(measurement, size_bytes, sparsity) == 0:
            return True
        self.context.listen(Note(f"{problem} ({self._describe_violations(measurement) or 'too large'}): left out"))
        return False

    def _describe_violations(self, measurement: Measurement) -> str:
        """Return what was measured beyond its target, with how sure it is."""
        return ", ".join(
            f"{ratio.value:.3f}× ± {ratio.half_width:.3f} of the base model's {metric}"
            for metric, ratio in ratios(measurement).items()
            if metric in self.limits and ratio.value > self.limits[metric]
        )

    def _violation(self, measurement: Measurement, size_bytes: int, sparsity: float | None) -> float:
        require_comparable(measurement)
        size = size_bytes / self.base.figures.size_bytes
        return violation(relative_costs(measurement, size=size, sparsity=sparsity), self.limits)


def figures_before(found: Candidate, measured: Measurement) -> Figures:
    """Return a candidate's figures, before it is fine-tuned, as an artifact has them."""
    return Figures(
        search_accuracy=found.accuracy, test_accuracy=None, parameters=found.parameters, macs=found.macs,
        size_bytes=found.size_bytes, measurement=measured, channels=found.channels,
        peak_activation_bytes=found.peak_activation_bytes, sparsity=found.sparsity,
    )  # fmt: skip
