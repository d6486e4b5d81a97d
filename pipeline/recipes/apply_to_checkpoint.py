"""`pipeline apply`: from a recipe and a checkpoint to a pruned network's files; no device is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, fx, nn

from pipeline import structures
from pipeline.config import CriterionConfig, EvaluationConfig, FineTuningConfig, is_model_file
from pipeline.data import DataSet, load_data
from pipeline.devices.compatibility import OLDEST_SUPPORT
from pipeline.errors import DataError, ModelError
from pipeline.export.format import FLOAT32, FP16, INPUT, INT8, float_parent, open_format
from pipeline.export.format_plugin import model_format
from pipeline.export.fp16_format import asking_for_fp16
from pipeline.models import load_model
from pipeline.models.safetensors_io import WEIGHTS, weights_bytes
from pipeline.objective.load import load_task
from pipeline.objective.task import Task
from pipeline.pruning.complexity import Measures, measures_of
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import BATCH, reestimate_batch_norm
from pipeline.pruning.reconstruction.reconstruct import TargetActivations, reconstruct
from pipeline.pruning.surgery.prune import Ranking
from pipeline.pruning.trace import trace
from pipeline.recipes.apply import AfterCut, Rank, apply_recipe, example_of, task_of_recipe
from pipeline.recipes.int8 import quantized, why_float
from pipeline.recipes.recipe import RECIPE, Cut, Recipe, read_recipe, to_text
from pipeline.records import ModelFormat, SearchSpace, WeightBits, channel_sparsity, layout
from pipeline.structures import Inputs
from pipeline.training.score import score

_EVALUATION, _FINE_TUNING = EvaluationConfig(), FineTuningConfig()
"""As many images as a run takes by default."""
_EXAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest:
    """What the user wants."""

    recipe: Path
    """A file, or a pulled bundle's folder."""
    weights: Path | None
    """None: the model is an ONNX file, which holds them."""
    weights_key: str | None = None
    """Which of several sets of weights in that file."""
    model: str | None = None
    """None: the recipe's."""
    rank: Literal["recipe", "criterion"] = "recipe"
    """Whose channels stay: the recipe's own, or as many, ranked anew."""
    data: str | None = None
    format: str = "onnx"
    task: str | None = None
    """None: the recipe's, which has to be one that ships."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized(Measures):
    """A network's measures, and the bytes of its files."""

    size_bytes: int
    weights_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The task's score on the search split, before and after."""

    images: int
    base: float
    pruned: float
    """In float32."""
    int8: float | None = None
    """Of the pruned network's INT8 file; None: there is none."""
    agreement: float | None = None
    """Of these images, the share that INT8 and float32 put into the same class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedCheckpoint:
    """What came of it."""

    recipe: Recipe
    """With the channels that stayed here, and this checkpoint's sha256."""
    files: Mapping[str, bytes]
    format: ModelFormat
    base: Sized
    pruned: Sized
    accuracy: Accuracy | None
    metric: str
    """What the task calls it."""
    request: ApplyRequest
    original: Recipe
    """As it was read."""
    precision: str = FLOAT32
    """In which the model file computes, or, of ``fp16``, asks TensorRT to, as the recipe's own did."""
    weight_bits: WeightBits | None = None
    """Of an INT8 file."""
    why_float: str | None = None
    """Why the recipe's network is not float32 and this one is; None where that is not so."""

    @property
    def same_weights(self) -> bool:
        """The checkpoint is the one that the recipe was made with."""
        return self.recipe.weights_sha256 == self.original.weights_sha256

    @property
    def recovery(self) -> Literal["none", "batch norm re-estimated", "layers fitted to the cut"]:
        """What was done after the cut; none where there were no images."""
        if self.accuracy is None:
            return "none"
        zeros = any(cut.zeros for cut in self.recipe.cuts)
        return "batch norm re-estimated" if zeros else "layers fitted to the cut"

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it, as JSON values."""
        request, original, seen = self.request, self.original, self.accuracy
        return {
            "model": {
                "file": self.format.file,
                "format": self.format.name,
                "precision": self.precision,
                **({} if self.weight_bits is None else {"weight_bits": self.weight_bits}),
            },
            "classes": original.classes,
            "input": {
                "name": INPUT,
                "shape": list(original.input_shape),
                "layout": layout(original.input_shape),
                "type": "float32",
            },
            "recipe": {"source": original.source, "rank": request.rank, "same_weights": self.same_weights},
            "figures": {
                "base": asdict(self.base),
                "pruned": asdict(self.pruned),
                "channel_sparsity": channel_sparsity(self.base.channels, self.pruned.channels),
            },
            "accuracy": None if seen is None else {"data": request.data, "split": "search", **asdict(seen)},
            **({} if self.metric == "accuracy" else {"metric": self.metric}),
            "recovery": self.recovery,
            "versions": dict(self.recipe.versions),
        }


def apply_to_checkpoint(request: ApplyRequest, on_note: Callable[[str], None]) -> AppliedCheckpoint:
    """Cut the checkpoint as the recipe says.

    Raises:
        UserError: recipe, model, weights or data cannot be used or do not fit together.
        CandidateError: the network cannot be cut, or not be written in the format.
    """
    recipe, written = read_recipe(request.recipe), model_format(request.format)
    name = request.model or recipe.model
    if request.weights is None and not is_model_file(name):
        raise ModelError(f"no weights are given for {name}; give the checkpoint that is to be cut: --weights FILE")
    task = task_of_recipe(recipe, None if request.task is None else load_task(request.task))
    data = None if request.data is None else _data(request.data, recipe, task)
    example = example_of(recipe) if data is None else next(data.train.batches(_EXAMPLES))[0]
    model = load_model(
        name, classes=recipe.classes, channels=recipe.input_shape[0], weights=request.weights,
        weights_key=request.weights_key, example=None if isinstance(example, tuple) else example,
    )  # fmt: skip
    base = _traced(model, recipe, example, task)
    on_note("cutting")
    applied = apply_recipe(
        model, recipe, example=example, after_cut=_recovering(data), task=task,
        rank=_ranking(recipe, data, example, task) if request.rank == "criterion" else None,
    )  # fmt: skip
    on_note(f"writing {request.format}")
    format = open_format(request.format, base, example, support=OLDEST_SUPPORT, on_note=on_note)
    file, weights = format.file(applied.network), weights_bytes(applied.network)
    files, precision = {written.file: file}, FLOAT32
    bits: WeightBits | None = None
    seen, why = None if data is None else _accuracy(base, applied.network, data), why_float(recipe, data, format)
    if recipe.precision == INT8 and why is None and data is not None and seen is not None:
        on_note("quantizing")
        made = quantized(applied.network, file, recipe, data, format, _EVALUATION.search_images)
        files, precision = {written.file: made.data, float_parent(written.ending): file}, INT8
        bits = made.weight_bits
        seen = replace(seen, int8=made.accuracy, agreement=made.agreement)
    elif recipe.precision == FP16 and why is None:
        files, precision = {written.file: asking_for_fp16(file)}, FP16
    return AppliedCheckpoint(
        recipe=applied.recipe,
        format=written,
        files={**files, WEIGHTS: weights, RECIPE: to_text(applied.recipe).encode()},
        base=_sized(base, example, format.file(base)),
        pruned=_sized(applied.network, example, files[written.file]),
        accuracy=seen,
        metric=task.metric_name,
        request=request,
        original=recipe,
        precision=precision,
        weight_bits=bits,
        why_float=why,
    )


def _data(spec: str, recipe: Recipe, task: Task) -> DataSet:
    """Return the data set; raises DataError where it is not what the recipe's network takes."""
    shape, fitting = recipe.input_shape, recipe.fitting or {}
    square = task.puts_into_classes and len(shape) == 3 and shape[1] == shape[2]
    data = load_data(
        spec, seed=recipe.seed, image_size=shape[1] if square else None, resize=fitting.get("resize"),
        interpolation=fitting.get("interpolation"), signals=len(shape) == 2, mean=recipe.mean, std=recipe.std,
        task=task,
    )  # fmt: skip
    if data.more_shapes != recipe.more_shapes:
        raise DataError(
            f"the recipe's network takes further inputs of shapes {recipe.more_shapes}, {data.name} has "
            f"{data.more_shapes}: give data of the same shapes"
        )
    if data.shape != recipe.input_shape or len(data.classes) != recipe.classes:
        raise DataError(
            f"the recipe's network takes images of shape {recipe.input_shape} and knows {recipe.classes} classes; "
            f"{data.name} has {data.shape} and {len(data.classes)}: give data of the same shape and classes"
        )
    return data


def _traced(model: nn.Module, recipe: Recipe, example: Inputs, task: Task) -> fx.GraphModule:
    network, count = trace(model, example, classes=recipe.classes, task=task), structures.count(example)
    if not task.puts_into_classes:
        return network
    found = tuple(structures.answer(network, example).shape)
    if found != (count, recipe.classes):
        raise ModelError(
            f"the model answers {count} images with a tensor of shape {found}; the recipe's has "
            f"{recipe.classes} classes: give a model with as many outputs"
        )
    return network


def _recovering(data: DataSet | None) -> AfterCut:
    """Return who fits a network to its cut; without data it keeps the weights that are left."""
    if data is None:
        return lambda *_: None

    def recover(network: fx.GraphModule, before: fx.GraphModule, cut: Cut, kept: Mapping[str, Tensor]) -> None:
        if cut.zeros:
            reestimate_batch_norm(network, data.train.batches(BATCH, limit=_EVALUATION.batch_norm_images))
        else:
            batches = data.train.batches(BATCH, limit=_FINE_TUNING.reconstruction_images)
            reconstruct(network, TargetActivations(before, batches, _FINE_TUNING.reconstruction_samples), kept)

    return recover


def _ranking(recipe: Recipe, data: DataSet | None, example: Inputs, task: Task) -> Rank:
    """Return who ranks the channels anew, by each cut's criterion as the run did."""

    def ranked(network: fx.GraphModule, space: SearchSpace, cut: Cut) -> Ranking:
        images = int(cut.options.get("images", _EVALUATION.ranking_images))
        options = CriterionConfig(**{k: v for k, v in cut.options.items() if k in CriterionConfig.model_fields})
        batches = [] if data is None else data.train.batches(BATCH, limit=images)
        groups = dependency_graph(network, example).groups
        try:
            return rank(network, space, cut.criterion, groups, batches, options=options, seed=recipe.seed, task=task)
        except DataError as error:
            if data is not None:
                raise
            raise DataError(
                f"the recipe's criterion, {cut.criterion}, ranks channels by what the network makes of images: add "
                "--data, or keep the recipe's own channels with --rank recipe"
            ) from error

    return ranked


def _sized(network: fx.GraphModule, example: Inputs, file: bytes) -> Sized:
    return Sized(
        **asdict(measures_of(network, example)), size_bytes=len(file), weights_bytes=len(weights_bytes(network))
    )


def _accuracy(base: fx.GraphModule, pruned: fx.GraphModule, data: DataSet) -> Accuracy:
    limit = _EVALUATION.search_images
    before, after = (score(network, data.search, data.task, limit) for network in (base, pruned))
    return Accuracy(images=min(limit, len(data.search)), base=before, pruned=after)
