"""A trained network, and the same cut by one level in every group and fitted to its cut: what trainings begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import fx

from _common.examples import example_of
from pipeline.config import RunConfig
from pipeline.data import DataSet
from pipeline.evaluation.candidate_builder import Builder
from pipeline.export.format import open_format
from pipeline.models import load_model
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH
from pipeline.pruning.search_space import search_space
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, PruningPlan

_STEP = 8
"""What kept channels are rounded up to."""


@dataclass(frozen=True)
class Halved:
    """Both networks, by what was asked for."""

    base: fx.GraphModule
    cut: fx.GraphModule


def halved(model: str, weights: Path, data: DataSet, *, level: int = 50) -> Halved:
    """Return a network and its cut: every group at ``level`` percent, or at its deepest below that."""
    builder = builder_for(model, weights, data)
    levels = tuple(max(each for each in (0, *group.levels) if each <= level) for group in builder.space.groups)
    return Halved(builder.base, builder.finalist(PruningPlan(levels=levels)))


def builder_for(model: str, weights: Path | None, data: DataSet) -> Builder:
    """Return what cuts a network; without weights it keeps its random ones."""
    config, example = RunConfig(), example_of(data.train)
    network = load_model(
        model, classes=len(data.classes), channels=data.shape[0], weights=weights, weights_key=None, head=None,
        example=example,
    )  # fmt: skip
    base = trace(network, example, classes=len(data.classes))
    space = search_space(base, example, step=_STEP)
    images = data.train.batches(BATCH, limit=config.evaluation.ranking_images)
    groups = dependency_graph(base, example).groups
    return Builder(
        base=base, space=space, data=data, settings=config.evaluation, fine_tuning=config.fine_tuning,
        format=open_format("onnx", base, example, support=OnnxSupport(17, 8)), example=example,
        ranking=rank(base, space, config.criterion, groups, images, options=config.criterion_options, seed=config.seed),
    )  # fmt: skip
