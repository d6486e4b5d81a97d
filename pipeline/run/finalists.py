"""From a trial to an artifact: fine-tuned, sent whole, verified and measured on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from safetensors.torch import load_file
from torch import fx

from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.measurement.feasibility import ratios, surely_meets, surely_misses
from pipeline.measurement.validity import why_invalid
from pipeline.models import default_model
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.reconstruction.batch_norm import Images, accuracy
from pipeline.pruning.surgery.prune import prune
from pipeline.recipes.recipe import RECIPE, to_text
from pipeline.records import FULL, Artifact, Figures, Measurement, PruningPlan, Trial
from pipeline.run.artifact_recipe import recipe_of
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.device_verification import verify
from pipeline.run.successive_halving import Rung
from pipeline.run.training_stage import forget, learn
from pipeline.search.reward import ratios_of, violation
from pipeline.targets import Metric
from pipeline.training.settings import FineTuning, settings_of

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What turns a round's best trials into artifacts; each finished one is in the store at once."""

    context: Context
    builder: Builder
    bench: Bench
    base: Base
    """The teacher, too: the network as the user brought it."""
    limits: Mapping[Metric, float]

    def name(self, trial: Trial) -> str:
        """Return the id of a finalist's artifact, and of its training."""
        return f"r{self.bench.round}t{trial.index}"

    def training(self, trial: Trial, rungs: Sequence[Rung], number: int) -> str:
        """Return the name of a finalist's training in one rung; that of the last one is the artifact's."""
        last = number == len(rungs) - 1
        return self.name(trial) if last else f"{self.name(trial)}-rung{number + 1}"

    def settled(self, trial: Trial) -> Trial | None:
        """Return a trial that meets every target; None: it misses one.

        Where that is not sure (see ``certainty``), it is measured anew in several processes, and that alone counts:
        what it was picked by is low by luck.
        """
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        if surely_meets(trial.measurement, self.limits):
            return trial
        self.context.stop_if_asked()
        self.context.listen(Stage(f"Measure candidate {trial.index} longer: too near the target to tell"))
        again = self.bench.again(self.builder.probe(trial.plan.levels))
        measured = trial.measurement if why_invalid(again) else again
        told = f"candidate {trial.index} misses the target, measured longer"
        meets = self._meets(measured, trial.candidate.size_bytes, trial.candidate.sparsity, told)
        return replace(trial, measurement=measured) if meets else None

    def climb(self, trial: Trial, rungs: Sequence[Rung], number: int) -> float:
        """Train a finalist by one rung, the rungs before being over; return its accuracy on the validation split.

        Its weights are stored; a rung that was finished before the run was resumed is not trained again.
        """
        context, name = self.context, self.training(trial, rungs, number)
        context.stop_if_asked()
        if known := context.store.get(_rung(name)):
            return float(known["validation_accuracy"])
        network = self._before(trial, rungs, number)
        which = f", rung {number + 1} of {len(rungs)}" if len(rungs) > 1 else ""
        title = f"Fine-tune finalist {trial.index}{which}"
        self._train(name, network, trial.plan, context.data.train, rungs[number].settings, title)
        scored = self._validated(network)
        weights = context.store.put_blob(weights_bytes(network))
        context.store.set(_rung(name), {"weights": weights, "validation_accuracy": scored})
        forget(context, name)
        return scored

    def brief(self, trial: Trial) -> Artifact:
        """Return a finalist that has climbed all rungs, its whole file verified and measured on the device."""
        name = self.name(trial)
        if known := self._known(name):
            return known
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        found, climbed = trial.candidate, self.context.store.get(_rung(name))
        before = Figures(
            search_accuracy=found.accuracy, test_accuracy=None, parameters=found.parameters, macs=found.macs,
            size_bytes=found.size_bytes, measurement=trial.measurement, channels=found.channels,
            peak_activation_bytes=found.peak_activation_bytes, sparsity=found.sparsity,
        )  # fmt: skip
        artifact = Artifact(
            id=name, trial=trial.index, plan=trial.plan, key=trial.key, files={}, before=before, after=before,
            device_accuracy=None, host_accuracy=None, round=self.bench.round,
            validation_accuracy=float(climbed["validation_accuracy"]),
        )  # fmt: skip
        return self._finished(artifact, self._loaded(trial.plan, climbed["weights"]))

    def full(self, brief: Artifact) -> Artifact:
        """Return a finalist, fine-tuned in full.

        In the last round on everything but the test split. On the training split alone before that, because a later
        round still judges its candidates and finalists on the search and validation splits, and where runs are
        compared with each other by the validation split.
        """
        name = f"{brief.id}{FULL}"
        if known := self._known(name):
            return known
        config, data = self.context.config, self.context.data
        last = self.bench.round == config.rounds and not self.context.compared
        network = self.network(brief)
        images = data.everything_but_test() if last else data.train
        told = config.recovery
        settings = settings_of(told, epochs=told.epochs, min_steps=told.min_steps, seed=config.seed)
        title = f"Fine-tune the chosen one, {brief.trial}"
        self._train(name, network, brief.plan, images, settings, title, unseen=not last)
        # Splits that have been trained on say nothing any more: there the brief one's figures stay.
        validation = brief.validation_accuracy if last else self._validated(network)
        artifact = replace(brief, id=name, validation_accuracy=validation)
        full = self._finished(artifact, network, brief.after.search_accuracy if last else None)
        self._tell_of_a_miss(full)
        return full

    def holds(self, artifact: Artifact) -> bool:
        """Return whether the whole file meets every target, as measured beside the base model; says so if not.

        Asked of a finalist before it is fine-tuned in full. What is measured after that decides nothing any more, so
        that no luck is in the figures that the user is given.
        """
        after = artifact.after
        told = f"finalist {artifact.trial} misses the target as a whole file"
        return self._meets(after.measurement, after.size_bytes, after.sparsity, told)

    def announce(self, scores: Mapping[str, float]) -> None:
        """Say how finalists compare on the validation split, the best first."""
        told = ", ".join(f"{name} {score:.1%}" for name, score in sorted(scores.items(), key=lambda s: -s[1]))
        self.context.listen(Note(f"on the validation split: {told}"))

    def network(self, artifact: Artifact) -> fx.GraphModule:
        """Return an artifact's network with its stored weights."""
        return self._loaded(artifact.plan, artifact.files[WEIGHTS])

    # ------------------------------------------------------------ helpers

    def _before(self, trial: Trial, rungs: Sequence[Rung], number: int) -> fx.GraphModule:
        """Return a finalist's network as the rung before has left it; before the first one, as it was cut."""
        if number == 0:
            self.context.listen(Stage(f"Cut finalist {trial.index} and fit its layers"))
            return self.builder.finalist(trial.plan)
        before = self.context.store.get(_rung(self.training(trial, rungs, number - 1)))
        return self._loaded(trial.plan, before["weights"])

    def _loaded(self, plan: PruningPlan, weights: str) -> fx.GraphModule:
        builder = self.builder
        network = prune(builder.base, builder.space, plan.levels, builder.ranking, builder.example)
        network.load_state_dict(load_file(self.context.store.blob(weights)))
        return network.eval()

    def _validated(self, network: fx.GraphModule) -> float:
        return accuracy(network, self.context.data.val)

    def _known(self, name: str) -> Artifact | None:
        """Return an artifact that was finished before the run was resumed."""
        self.context.stop_if_asked()
        return next((a for a in self.context.store.artifacts() if a.id == name), None)

    def _train(
        self,
        name: str,
        network: fx.GraphModule,
        plan: PruningPlan,
        images: Images,
        settings: FineTuning,
        title: str,
        *,
        unseen: bool = True,
    ) -> None:
        if settings.epochs == 0:
            return
        learn(
            self.context, network, images, settings,
            name=name, title=title, teacher=self.base.network, unseen=unseen, hold_zeros=bool(plan.zeros),
        )  # fmt: skip

    def _finished(self, artifact: Artifact, network: fx.GraphModule, search_accuracy: float | None = None) -> Artifact:
        """Export, send whole, verify and measure a network; store it as ``artifact``.

        Its accuracy on the search split is read here unless it is given.
        """
        store = self.context.store
        model = self.context.format.file(network)
        verified = verify(self.context, model)
        weights = store.put_blob(weights_bytes(network))
        files = {f"model.{self.context.format.name}": store.put_blob(model), WEIGHTS: weights}
        done = replace(
            artifact,
            files=files | self._recipe(artifact),
            after=self._figures(network, model, artifact.id, search_accuracy),
            device_accuracy=verified.on_device,
            host_accuracy=verified.on_host,
            verified_images=verified.images,
        )
        store.add_artifact(done)
        forget(self.context, done.id)
        return done

    def _recipe(self, artifact: Artifact) -> dict[str, str]:
        """Return the file that says what was cut; none where an earlier round, of an older version, has none."""
        config, data = self.context.config, self.context.data
        recipe = recipe_of(self.context.store, self.builder, artifact, config.model or default_model(data), config)
        return {} if recipe is None else {RECIPE: self.context.store.put_blob(to_text(recipe).encode())}

    def _figures(self, network: fx.GraphModule, model: bytes, name: str, search_accuracy: float | None) -> Figures:
        measures = measures_of(network, self.builder.example)
        return Figures(
            search_accuracy=self.builder.accuracy(network) if search_accuracy is None else search_accuracy,
            test_accuracy=None, **asdict(measures), size_bytes=len(model),
            measurement=self._measured(model, name),
        )  # fmt: skip

    def _measured(self, model: bytes, name: str) -> Measurement:
        """Return the whole file's figures; of a finalist that is too near a target to tell, from a second look as well.

        That is taken whichever side of the target the first one was on: else luck would only ever help.
        """
        self.context.listen(Stage(f"Measure the whole file of {name}"))
        key = f"{self.bench.round}:whole:{name}"
        kind = self.context.agent.device.format
        found = self.bench.whole(model, key, kind=kind)
        if name.endswith(FULL) or surely_meets(found, self.limits) or surely_misses(found, self.limits):
            return found
        self.context.listen(Stage(f"Measure {name} once more: too near the target to tell"))
        return self.bench.whole(model, key, looks=2, kind=kind)

    def _tell_of_a_miss(self, full: Artifact) -> None:
        """Say where the fresh measurement of the chosen one lies beyond a target, as that of every second one at it."""
        after = full.after
        if self._misses(after.measurement, after.size_bytes, after.sparsity):
            said = "measured afresh, the chosen one is beyond a target that it met when it was chosen"
            self.context.listen(Note(f"{said}: {self._measured_beyond(after.measurement)}"))

    def _meets(self, measurement: Measurement, size_bytes: int, sparsity: float | None, told: str) -> bool:
        """Return whether a network meets every target as measured beside the base model; if not, ``told`` is said."""
        if self._misses(measurement, size_bytes, sparsity) == 0:
            return True
        self.context.listen(Note(f"{told} ({self._measured_beyond(measurement) or 'too large'}): left out"))
        return False

    def _measured_beyond(self, measurement: Measurement) -> str:
        """Return what was measured beyond its target, with how sure it is."""
        return ", ".join(
            f"{ratio.value:.3f}× ± {ratio.half_width:.3f} of the base model's {metric}"
            for metric, ratio in ratios(measurement).items()
            if metric in self.limits and ratio.value > self.limits[metric]
        )

    def _misses(self, measurement: Measurement, size_bytes: int, sparsity: float | None) -> float:
        size = size_bytes / self.base.figures.size_bytes
        return violation(ratios_of(1.0, 1.0, size, measurement, density=1 - (sparsity or 0.0)), self.limits)


def _rung(training: str) -> str:
    """Return the fact in which a rung's weights and score are stored."""
    return f"rung {training}"
