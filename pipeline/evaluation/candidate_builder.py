"""Candidate builder: cut the network, reconstruct its layers, read its accuracy, write its skeleton.

A pure function of the plan and of what the builder was made with; nothing here knows a device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor, fx

from pipeline.config import EvaluationConfig, FineTuningConfig
from pipeline.data import DataSet
from pipeline.data.dataset import Split
from pipeline.evaluation.file_accuracy import file_score
from pipeline.evaluation.half_precision import InHalfPrecision
from pipeline.export.format import FLOAT32, FP16, Format, Skeleton
from pipeline.objective.task import Task
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.reconstruction.batch_norm import BATCH, reestimate_batch_norm
from pipeline.pruning.reconstruction.reconstruct import TargetActivations, reconstruct
from pipeline.pruning.surgery.prune import Ranking, kept_channels, prune, surplus
from pipeline.pruning.surgery.weight_sparsity import set_to_zero
from pipeline.records import Candidate, PruningPlan, SearchSpace
from pipeline.structures import Inputs
from pipeline.training.accelerator import cpu
from pipeline.training.score import score


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate, the skeleton that stands for it on the device, and the seconds that each stage took."""

    candidate: Candidate
    skeleton: Skeleton
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Everything that turns plans into candidates."""

    base: fx.GraphModule
    space: SearchSpace
    ranking: Ranking
    data: DataSet
    settings: EvaluationConfig
    fine_tuning: FineTuningConfig
    format: Format
    example: Inputs = field(repr=False)
    """A few real, normalised images."""
    conditions: Mapping[str, DataSet] = field(default_factory=dict, repr=False)
    """The data under each condition, of which ``data`` is the mixture; empty: there are none."""

    def __getstate__(self) -> dict[str, object]:
        """Return what is sent to a worker, which takes the base network's activations by itself."""
        return {name: value for name, value in vars(self).items() if name != "_candidate_activations"}

    def network(self, plan: PruningPlan) -> fx.GraphModule:
        """Return the plan's network as the search judges it: fitted to the cut on a few images; raises CutError."""
        return self._reconstructed(plan, lambda: self._candidate_activations)

    def finalist(self, plan: PruningPlan) -> fx.GraphModule:
        """Return the plan's network as fine-tuning begins with it: fitted on more images; raises CutError."""
        return self._reconstructed(plan, self._finalist_activations)

    def fit_as_finalist(self, pruned: fx.GraphModule, units: Mapping[str, Tensor]) -> None:
        """Fit a network that lost ``units`` of the groups to its cut in place, as fine-tuning begins with it."""
        self._fit(pruned, units, self._finalist_activations)

    def _reconstructed(self, plan: PruningPlan, answers: Callable[[], TargetActivations]) -> fx.GraphModule:
        pruned = prune(self.base, self.space, plan.levels, self.ranking, self.example)
        set_to_zero(pruned, self.space.zeros(plan))
        if plan.zeros:
            self._reestimate(pruned)
        elif any(plan.levels):
            self._fit(pruned, surplus(self.space, plan.levels, self.ranking), answers)
        return pruned

    def _fit(
        self, pruned: fx.GraphModule, units: Mapping[str, Tensor], answers: Callable[[], TargetActivations]
    ) -> None:
        if self.settings.reconstruction_samples:
            reconstruct(pruned, answers(), kept_channels(self.base, units, self.example))
        else:
            self._reestimate(pruned)

    def _reestimate(self, pruned: fx.GraphModule) -> None:
        reestimate_batch_norm(pruned, self.data.train.batches(BATCH, limit=self.settings.batch_norm_images))

    @cached_property
    def _candidate_activations(self) -> TargetActivations:
        """What the base network's layers answer, to which those of candidates are fitted."""
        few = min(BATCH, self.settings.batch_norm_images)
        return self._target_activations(few, self.settings.reconstruction_samples)

    def _finalist_activations(self) -> TargetActivations:
        """Return what finalists are fitted to."""
        settings = self.fine_tuning
        if settings.reconstruction_samples == 0:
            return self._candidate_activations
        return self._target_activations(settings.reconstruction_images, settings.reconstruction_samples)

    def _target_activations(self, images: int, places: int) -> TargetActivations:
        return TargetActivations(self.base, self.data.train.batches(BATCH, limit=images), places)

    def accuracy(self, network: fx.GraphModule) -> float:
        """Return the task's score on the search split, in the precision in which the device computes."""
        return self._scores(network, [self.data])[0]

    def accuracies(self, network: fx.GraphModule) -> dict[str, float]:
        """Return that score under each condition: of the same images, on the host, at no cost of the device's."""
        return dict(zip(self.conditions, self._scores(network, list(self.conditions.values())), strict=True))

    def _scores(self, network: fx.GraphModule, data: Sequence[DataSet]) -> list[float]:
        splits, limit = [one.search for one in data], self.settings.search_images
        return scores_as_deployed(network, self.format, splits, self.data.task, limit)

    def skeleton(self, levels: tuple[int, ...]) -> Skeleton:
        """Return the skeleton of a plan's network; its weights do not matter, so nothing is evaluated."""
        network = prune(self.base, self.space, levels, self.ranking, self.example)
        return self.format.skeleton(network)

    def build(self, plan: PruningPlan) -> Built:
        """Return the plan's candidate.

        Its accuracy is computed as a fine-tuning is, in half precision where that is faster. On CIFAR's ResNets that
        moves it by 0.1 points, a tenth of the standard error of 1000 images.

        Raises:
            CandidateError: the cut or the export failed its check.
        """
        clock = _Clock()
        with cpu().autocast():
            network = self.network(plan)
            clock.lap("cut")
            under = self.accuracies(network)
            share = fmean(under.values()) if under else self.accuracy(network)
            clock.lap("accuracy")
        skeleton = self.format.skeleton(network)
        clock.lap("export")
        measures = measures_of(network, self.example)
        clock.lap("weigh")
        candidate = Candidate(
            key=self.space.network_key(plan),
            accuracy=share,
            **asdict(measures),
            size_bytes=skeleton.size_bytes,
            probe_bytes=len(skeleton.data),
            accuracies=under,
        )
        return Built(candidate, skeleton, clock.seconds)


def score_as_deployed(
    network: fx.GraphModule, format: Format, split: Split, task: Task, limit: int | None = None
) -> float:
    """Return the task's score on the first ``limit`` images: torch's in float32 and FP16, else the file's own.

    Raises:
        ExportError: the network cannot be written, or not be computed in FP16.
        ConfigError: a function of the task fails.
    """
    return scores_as_deployed(network, format, [split], task, limit)[0]


def scores_as_deployed(
    network: fx.GraphModule, format: Format, splits: Sequence[Split], task: Task, limit: int | None = None
) -> list[float]:
    """Return the score on each of several splits, the network being written once; raises as the score on one."""
    if format.precision == FLOAT32:
        return [score(network, split, task, limit) for split in splits]
    if format.precision == FP16:
        half = InHalfPrecision(network)
        return [score(half, split, task, limit) for split in splits]
    if not splits:
        return []
    with torch.autocast("cpu", enabled=False):  # the file is float32's, whatever its accuracy would be read in
        file = format.file(network)
    return [file_score(file, split, task, limit) for split in splits]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
