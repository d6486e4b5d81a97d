"""After the search: the best candidates are fine-tuned, sent whole, verified and measured; one is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import fx

from pipeline.base import Base
from pipeline.bench import Bench
from pipeline.candidates import Builder
from pipeline.context import BATCH, Context
from pipeline.errors import ExportError, MeasureError
from pipeline.events import Note, Stage
from pipeline.pooling import pooled
from pipeline.pruning.measures import weigh
from pipeline.pruning.prune import prune
from pipeline.pruning.recover import FineTuning, Images, accuracy, fine_tune
from pipeline.records import FULL, Artifact, Figures, Measurement, Trial
from pipeline.reward import ratios_of, violation
from pipeline.targets import Metric

ACCURACY_TOLERANCE = 0.002
"""The device may differ from the host by so much of the verified images."""
WEIGHTS = "weights.safetensors"
_SECOND_LOOK = 9.0
"""A whole file that misses a target is measured again, so many times as long as a candidate in the search."""


def pick_finalists(trials: Sequence[Trial], limits: Mapping[Metric, float]) -> list[Trial]:
    """Return the feasible trials, the best first, no two of the same network.

    Those whose figures are in doubt come last. Among the others, first those that meet the latency target beyond
    doubt: with the upper end of the confidence interval too.
    """
    feasible = [t for t in trials if t.feasible and t.reward is not None]
    ranked = sorted(
        feasible, key=lambda t: (in_doubt(t), not _surely_fast(t, limits), -(t.reward or 0.0), t.index)
    )  # fmt: skip
    first: dict[str, Trial] = {}
    for trial in ranked:
        first.setdefault(trial.key, trial)
    return list(first.values())


def in_doubt(trial: Trial) -> bool:
    """Return whether the trial's figures may be wrong: throttled, noisy and the like, twice in a row."""
    return trial.measurement is not None and bool(trial.measurement.flags)


def choose(finals: Finals, ranked: Sequence[Trial], count: int) -> Artifact | None:
    """Return the artifact to deploy: of ``count`` finalists that meet the targets as whole files the most accurate.

    Finalists are fine-tuned briefly and compared on the validation split; the best is then fine-tuned in full. Only
    if none of them meets the targets do the next best candidates get their turn. None: no candidate does.
    """
    for batch in batches(ranked, count):
        briefs = [finals.brief(trial) for trial in batch]
        scores = {brief.id: finals.validated(brief) for brief in briefs if finals.holds(brief)}
        for brief in sorted((b for b in briefs if b.id in scores), key=lambda b: -scores[b.id]):
            finals.announce(brief, scores)
            artifact = finals.full(brief)
            if finals.holds(artifact):
                return artifact
    return None


def batches(ranked: Sequence[Trial], count: int) -> Iterator[Sequence[Trial]]:
    """Yield finalists ``count`` at a time; no doubtful one stands beside one that is not in doubt."""
    for doubtful in (False, True):
        alike = [trial for trial in ranked if in_doubt(trial) == doubtful]
        yield from (alike[i : i + count] for i in range(0, len(alike), count))


def _surely_fast(trial: Trial, limits: Mapping[Metric, float]) -> bool:
    ratio = trial.measurement.ratio if trial.measurement else None
    return "latency" not in limits or (
        ratio is not None and bool(np.isfinite(ratio.high)) and ratio.high <= limits["latency"]
    )


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What turns a round's best trials into artifacts; each finished one is in the store at once."""

    context: Context
    builder: Builder
    bench: Bench
    base: Base
    """The teacher, too: the network as the user brought it."""
    limits: Mapping[Metric, float]

    def brief(self, trial: Trial) -> Artifact:
        """Return a finalist, fine-tuned briefly on the training split, so that finalists can be compared."""
        name = f"r{self.bench.round}t{trial.index}"
        if known := self._known(name):
            return known
        told = self.context.config.recovery
        network = self.builder.network(trial.plan)
        title = f"Fine-tune finalist {trial.index}"
        self._train(network, self.context.data.train, told.finalist_epochs, told.min_steps // 2, title)
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        before = Figures(
            search_accuracy=trial.candidate.accuracy, test_accuracy=None, parameters=trial.candidate.parameters,
            macs=trial.candidate.macs, size_bytes=trial.candidate.size_bytes, measurement=trial.measurement,
        )  # fmt: skip
        artifact = Artifact(
            id=name, trial=trial.index, plan=trial.plan, key=trial.key, files={}, before=before, after=before,
            device_accuracy=None, host_accuracy=None, round=self.bench.round,
        )  # fmt: skip
        return self._finished(artifact, network)

    def full(self, brief: Artifact) -> Artifact:
        """Return a finalist, fine-tuned in full.

        In the last round on everything but the test split; before that on the training split alone, because a later
        round still judges its candidates and finalists on the search and validation splits.
        """
        name = f"{brief.id}{FULL}"
        if known := self._known(name):
            return known
        config, data = self.context.config, self.context.data
        last = self.bench.round == config.rounds
        network = self.network(brief)
        images = data.everything_but_test() if last else data.train
        title = f"Fine-tune the chosen one, {brief.trial}"
        self._train(network, images, config.recovery.epochs, config.recovery.min_steps, title)
        # Once the search split has been trained on, its accuracy says nothing any more: the brief one's stays.
        return self._finished(replace(brief, id=name), network, brief.after.search_accuracy if last else None)

    def validated(self, artifact: Artifact) -> float:
        """Return a finalist's share of right answers on the validation split."""
        return accuracy(self.network(artifact), self.context.data.val.batches(BATCH))

    def holds(self, artifact: Artifact) -> bool:
        """Return whether the whole file meets every target, as measured beside the base model; says so if not."""
        after = artifact.after
        if self._misses(after.measurement, after.size_bytes) == 0:
            return True
        ratio = after.measurement.ratio
        latency = f" ({ratio.value:.3f}× of the base model's latency)" if ratio else ""
        self.context.listen(Note(f"finalist {artifact.trial} misses the target as a whole file{latency}: left out"))
        return False

    def announce(self, best: Artifact, scores: Mapping[str, float]) -> None:
        """Say how the finalists compare."""
        others = [f"{name} {score:.1%}" for name, score in scores.items() if name != best.id]
        against = f", against {', '.join(others)}" if others else ""
        self.context.listen(Note(f"{best.id}: {scores[best.id]:.1%} on the validation split{against}"))

    def network(self, artifact: Artifact) -> fx.GraphModule:
        """Return an artifact's network with its stored weights."""
        builder = self.builder
        network = prune(builder.base, builder.space, artifact.plan.levels, builder.ranking, builder.example)
        network.load_state_dict(load_file(self.context.store.blob(artifact.files[WEIGHTS])))
        return network.eval()

    # ------------------------------------------------------------ helpers

    def _known(self, name: str) -> Artifact | None:
        """Return an artifact that was finished before the run was resumed."""
        self.context.stop_if_asked()
        return next((a for a in self.context.store.artifacts() if a.id == name), None)

    def _train(self, network: fx.GraphModule, images: Images, epochs: float, min_steps: int, title: str) -> None:
        if epochs == 0:
            return
        told = self.context.config.recovery
        settings = FineTuning(
            epochs=epochs, min_steps=min_steps, batch_size=told.batch_size, learning_rate=told.learning_rate,
            teacher_mix=told.teacher_mix, temperature=told.temperature, seed=self.context.config.seed,
        )  # fmt: skip
        self.context.listen(Stage(title, settings.steps(len(images))))
        fine_tune(network, images, settings, teacher=self.base.network, on_step=self.context.train_step)

    def _finished(self, artifact: Artifact, network: fx.GraphModule, search_accuracy: float | None = None) -> Artifact:
        """Export, send whole, verify and measure a network; store it as ``artifact``.

        Its accuracy on the search split is read here unless it is given.
        """
        store = self.context.store
        model = self.context.format.file(network)
        on_device, on_host, images = self._verify(model)
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        done = replace(
            artifact,
            files={f"model.{self.context.format.name}": store.put_blob(model), WEIGHTS: store.put_blob(save(weights))},
            after=self._figures(network, model, artifact.id, search_accuracy),
            device_accuracy=on_device,
            host_accuracy=on_host,
            verified_images=images,
        )
        store.add_artifact(done)
        return done

    def _figures(self, network: fx.GraphModule, model: bytes, name: str, search_accuracy: float | None) -> Figures:
        weight = weigh(network, self.builder.example)
        return Figures(
            search_accuracy=self.builder.accuracy(network) if search_accuracy is None else search_accuracy,
            test_accuracy=None, parameters=weight.parameters,
            macs=weight.macs, size_bytes=len(model), measurement=self._measured(model, name),
        )  # fmt: skip

    def _measured(self, model: bytes, name: str) -> Measurement:
        """Return the whole file's figures; where they miss a target, a second, longer look counts as well.

        Both looks are pooled: a miss by noise is outweighed, one that is true stays.
        """
        self.context.listen(Stage(f"Measure the whole file of {name}"))
        key = f"{self.bench.round}:whole:{name}"
        kind = self.context.agent.device.format
        found = self.bench.whole(model, key, kind=kind)
        if self._misses(found, len(model)) == 0:
            return found
        return pooled(found, self.bench.whole(model, f"{key}:again", times=_SECOND_LOOK, kind=kind))

    def _misses(self, measurement: Measurement, size_bytes: int) -> float:
        ratios = ratios_of(1.0, 1.0, size_bytes / self.base.figures.size_bytes, measurement)
        return violation(ratios, self.limits)

    def _verify(self, model: bytes) -> tuple[float | None, float | None, int]:
        """Return accuracy on the device, on the host, and the number of real images both answered.

        A recording holds the outputs of its own files alone; a network that another machine trained to other weights is
        not verified when it is played back, and says so.

        Raises:
            ExportError: they differ by more than the tolerance.
        """
        batches = self.context.data.val.batches(BATCH, limit=self.context.config.recovery.verify_images)
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.context.listen(Stage(f"Verify on the device with {len(labels)} images"))
        try:
            there_said = self.context.agent.verify(model, images.numpy(), self.context.agent.device.format)
        except MeasureError as error:
            if self.context.agent.device.recording is None:
                raise
            self.context.listen(Note(f"not verified: {error}"))
            return None, None, 0
        right_there = there_said.argmax(1) == labels.numpy()
        right_here = self.context.format.answers(model, images.numpy()).argmax(1) == labels.numpy()
        there, here = float(right_there.mean()), float(right_here.mean())
        if abs(there - here) > ACCURACY_TOLERANCE:
            raise ExportError(
                f"the device answers {there:.1%} of {len(labels)} images right, the host {here:.1%}, with the same "
                "file; its runtime computes something else: try another version of it"
            )
        return there, here, len(labels)
