"""After the search: the best candidates are fine-tuned, sent whole, verified and measured; one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import fx

from pipeline.agent import Agent
from pipeline.bench import Bench
from pipeline.candidates import Builder
from pipeline.config import RecoveryConfig
from pipeline.errors import ExportError
from pipeline.events import Listener, Note, Stage, Step
from pipeline.export.onnx import answers, export
from pipeline.pruning.measures import weigh
from pipeline.pruning.prune import prune
from pipeline.pruning.recover import FineTuning, Images, accuracy, fine_tune
from pipeline.records import Artifact, Figures, Measurement, Trial
from pipeline.store import Store
from pipeline.targets import Metric

_BATCH = 256
ACCURACY_TOLERANCE = 0.002
"""The device may differ from the host by so much of the verified images."""


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What turns the search's best trials into artifacts; each finished one is in the store at once."""

    builder: Builder
    bench: Bench
    agent: Agent
    store: Store
    teacher: fx.GraphModule
    """The base model as the user brought it."""
    settings: RecoveryConfig
    seed: int
    round: int
    listen: Listener
    stop_if_asked: Callable[[], None]

    def brief(self, trial: Trial) -> Artifact:
        """Return a finalist, fine-tuned briefly on the training split, so that finalists can be compared."""
        name = f"r{self.round}t{trial.index}"
        known = {a.id: a for a in self.store.artifacts()}
        if name in known:
            return known[name]
        network = self.builder.network(trial.plan)
        self._train(
            network, self.builder.data.train, self.settings.finalist_epochs, self.settings.min_steps // 2,
            f"Fine-tune finalist {trial.index}",
        )  # fmt: skip
        return self._keep(name, trial, network)

    def validated(self, artifact: Artifact) -> float:
        """Return a finalist's share of right answers on the validation split."""
        return accuracy(self.network(artifact), self.builder.data.val.batches(_BATCH))

    def full(self, artifact: Artifact, trial: Trial) -> Artifact:
        """Return the chosen finalist, fine-tuned on everything but the test split."""
        name = f"r{self.round}best"
        known = {a.id: a for a in self.store.artifacts()}
        if name in known:
            return known[name]
        network = self.network(artifact)
        self._train(
            network, self.builder.data.everything_but_test(), self.settings.epochs, self.settings.min_steps,
            "Fine-tune the chosen one",
        )  # fmt: skip
        return self._keep(name, trial, network)

    def network(self, artifact: Artifact) -> fx.GraphModule:
        """Return an artifact's network with its stored weights."""
        builder = self.builder
        network = prune(builder.base, builder.space, artifact.plan.levels, builder.ranking, builder.example)
        network.load_state_dict(load_file(self.store.blob(artifact.files["weights.safetensors"])))
        return network.eval()

    def _train(self, network: fx.GraphModule, images: Images, epochs: float, min_steps: int, title: str) -> None:
        if epochs == 0:
            return
        told = self.settings
        settings = FineTuning(
            epochs=epochs, min_steps=min_steps, batch_size=told.batch_size, learning_rate=told.learning_rate,
            teacher_mix=told.teacher_mix, temperature=told.temperature, seed=self.seed,
        )  # fmt: skip
        self.listen(Stage(title, settings.steps(len(images))))

        def on_step(step: int, _: int, loss: float) -> None:
            self.stop_if_asked()
            self.listen(Step(step, f"loss {loss:.3f}"))

        fine_tune(network, images, settings, teacher=self.teacher, on_step=on_step)

    def _keep(self, name: str, trial: Trial, network: fx.GraphModule) -> Artifact:
        """Export, send whole, verify and measure a network, and store it as an artifact."""
        builder = self.builder
        model = export(network, builder.example, builder.limits)
        on_device, on_host, images = self._verify(model)
        measurement = self.bench.whole(model, f"{self.round}:whole:{name}")
        assert trial.candidate is not None  # only measured trials become finalists
        assert trial.measurement is not None
        before = replace(
            self._figures(network, len(model), trial.measurement), search_accuracy=trial.candidate.accuracy
        )
        weights = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
        artifact = Artifact(
            id=name, trial=trial.index, plan=trial.plan, key=trial.key,
            files={"model.onnx": self.store.put_blob(model), "weights.safetensors": self.store.put_blob(save(weights))},
            before=before, after=self._figures(network, len(model), measurement),
            device_accuracy=on_device, host_accuracy=on_host, verified_images=images, round=self.round,
        )  # fmt: skip
        self.store.add_artifact(artifact)
        return artifact

    def _figures(self, network: fx.GraphModule, size: int, measurement: Measurement) -> Figures:
        weight = weigh(network, self.builder.example)
        return Figures(
            search_accuracy=self.builder.accuracy(network), test_accuracy=None, parameters=weight.parameters,
            macs=weight.macs, size_bytes=size, measurement=measurement,
        )  # fmt: skip

    def _verify(self, model: bytes) -> tuple[float, float, int]:
        """Return accuracy on the device, on the host, and the number of real images both answered.

        Raises:
            ExportError: they differ by more than the tolerance.
        """
        split = self.builder.data.val
        images, labels = (
            torch.cat(parts) for parts in zip(*split.batches(_BATCH, limit=self.settings.verify_images), strict=True)
        )
        self.listen(Stage(f"Verify on the device with {len(labels)} images"))
        pixels = images.numpy()
        right_there = self.agent.verify(model, pixels).argmax(1) == labels.numpy()
        right_here = answers(model, pixels).argmax(1) == labels.numpy()
        there, here = float(right_there.mean()), float(right_here.mean())
        if abs(there - here) > ACCURACY_TOLERANCE:
            raise ExportError(
                f"the device answers {there:.1%} of {len(labels)} images right, the host {here:.1%}, with the same "
                "file; its runtime computes something else: try another version of it"
            )
        return there, here, len(labels)


def pick_finalists(trials: Sequence[Trial], limits: Mapping[Metric, float], count: int) -> list[Trial]:
    """Return the best feasible trials, no two of the same network; those that meet the targets beyond doubt first.

    Beyond doubt: the upper end of the latency's confidence interval meets the target too.
    """
    feasible = [t for t in trials if t.feasible and t.reward is not None]
    ranked = sorted(feasible, key=lambda t: (not _beyond_doubt(t, limits), -(t.reward or 0.0), t.index))
    chosen: dict[str, Trial] = {}
    for trial in ranked:
        chosen.setdefault(trial.key, trial)
    return list(chosen.values())[:count]


def _beyond_doubt(trial: Trial, limits: Mapping[Metric, float]) -> bool:
    ratio = trial.measurement.ratio if trial.measurement else None
    return "latency" not in limits or (
        ratio is not None and bool(np.isfinite(ratio.high)) and ratio.high <= limits["latency"]
    )


def choose(finals: Finals, finalists: Sequence[Trial]) -> Artifact:
    """Return the round's artifact: finalists, briefly fine-tuned, are compared on the validation split; the best in full."""
    briefs = {}
    for trial in finalists:
        finals.stop_if_asked()
        briefs[trial.index] = finals.brief(trial)
    scores = {index: finals.validated(artifact) for index, artifact in briefs.items()}
    best = max(scores, key=lambda index: scores[index])
    for index, score in scores.items():
        finals.listen(
            Note(f"finalist {index}: {score:.1%} on the validation split{' ← chosen' if index == best else ''}")
        )
    trial = next(t for t in finalists if t.index == best)
    return finals.full(briefs[best], trial)
