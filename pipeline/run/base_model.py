"""Base model: traced, trained where no weights are given, measured; every ratio is over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

import torch
from safetensors.torch import load_file
from torch import fx, nn

from pipeline.config import RunConfig
from pipeline.errors import ModelError
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.measurement.between_processes import Spread
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.trace import trace
from pipeline.records import Figures
from pipeline.run.context import Context
from pipeline.run.training_stage import discard_checkpoint, train_with_checkpoints
from pipeline.run.transfer_learning import TRAININGS, train_new_head
from pipeline.store import Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, SPREADS
from pipeline.targets import Metric, Target
from pipeline.training.score import score
from pipeline.training.settings import settings_of

_TRAINING = "base"
_SEEN = (
    "the base answers all of the search split right: its weights may have seen it in their training, and then no "
    "{metric} here says what it will be on others; give data that they have not seen"
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The network as the user brought it, its skeleton, and what it answers and costs on the device."""

    network: fx.GraphModule
    skeleton: bytes
    figures: Figures

    def figure(self, metric: Metric) -> float:
        """Return a figure in the unit of its target; ValueError where it was not measured."""
        return figure_of(self.figures, metric)

    def under(self, store: Store, condition: str) -> Base:
        """Return the base model with the accuracy that it has under one condition of the data; "": as it is."""
        return replace(self, figures=store.required(BASE.of(condition))) if condition else self

    def limits(self, targets: Sequence[Target]) -> dict[Metric, float]:
        """Return each target's limit as a share of the base model's figure."""
        return {target.metric: target.share(self.figure(target.metric)) for target in targets}


def figure_of(figures: Figures, metric: Metric) -> float:
    """Return the base model's figure in the unit of its target: ms, W, mJ, bytes; ValueError: it was not measured.

    Density is 1: targets count in shares of all of the base model's weights, those that are zero in it as well.
    """
    measurement = figures.measurement
    if metric == "density":
        return 1.0
    if metric == "latency":
        return measurement.p50_ms.value
    if metric == "size":
        return float(figures.size_bytes)
    if measurement.power is None:
        raise ValueError(f"{metric} was not measured")
    return (measurement.power.mean_w if metric == "power" else measurement.power.energy_total_mj).value


def may_have_seen(figures: Figures, config: RunConfig) -> bool:
    """Return whether a base model that was trained elsewhere answers too well for images that it has not seen."""
    return figures.search_accuracy == 1 and config.is_trained and config.head is None


def make_base(context: Context, model: nn.Module) -> Base:
    """Return the base model of a new or resumed run; weights and figures are kept in the store."""
    network = _network(context, model)
    skeleton = context.format.skeleton(network)
    return Base(
        network=network, skeleton=skeleton.data, figures=_figures(context, network, skeleton.size_bytes, skeleton.data)
    )


def _network(context: Context, model: nn.Module) -> fx.GraphModule:
    store = context.store
    if known := store.get(BASE_WEIGHTS):
        model.load_state_dict(load_file(store.blob(known)))
    else:
        if context.config.head == "new":
            train_new_head(context, model)
        elif not context.config.is_trained:
            _train(context, model)
        elif context.config.base_training.sparsity.l1:
            context.listen(Note("base_training.sparsity is left out: weights are given, so no base model is trained"))
        store.set(BASE_WEIGHTS, store.put_blob(weights_bytes(model)))
        for name in (_TRAINING, *TRAININGS):
            discard_checkpoint(context, name)
    network = trace(model, context.example, classes=len(context.data.classes), task=context.data.task)
    # Reading an accuracy lays weights out like this; a resumed run reads none, and sums must round alike in both.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _train(context: Context, model: nn.Module) -> None:
    section = context.config.base_training
    settings = settings_of(section, epochs=section.epochs, seed=context.config.seed)
    title = "Train a base model (no weights given)"
    data = context.data
    train_with_checkpoints(context, model, data.train, settings, name=_TRAINING, title=title, judge=data.search)


def _figures(context: Context, network: fx.GraphModule, size: int, skeleton: bytes) -> Figures:
    store = context.store
    if known := store.get(BASE):
        return known
    context.listen(Stage("Measure the base model"))
    measures, bench = measures_of(network, context.example), Bench(context.boards, store, skeleton)
    under = {one.condition: _accuracy(one, network) for one in context.of_each_condition()}
    figures = Figures(
        search_accuracy=fmean(under.values()), test_accuracy=None, **asdict(measures),
        size_bytes=size, measurement=bench.base(),
    )  # fmt: skip
    for condition in context.conditions:
        store.set(BASE.of(condition), replace(figures, search_accuracy=under[condition]))
    store.set(BASE, figures)
    spreads: dict[str, Spread] = {metric: spread for metric, spread in bench.spreads.items()}  # noqa: C416
    store.set(SPREADS, spreads)
    context.listen(
        Note(f"base: {context.data.task.shown(figures.search_accuracy)} on {context.data.name}'s search split, "
             f"{figures.measurement.p50_ms.value:.3g} ms, {measures.parameters:,} parameters, "
             f"{measures.macs / 1e6:.1f} M MACs")
    )  # fmt: skip
    if context.conditions:
        each = ", ".join(f"{context.data.task.shown(found)} {name}" for name, found in under.items())
        context.listen(Note(f"of which that is the mean: {each}"))
    for metric, spread in bench.spreads.items():
        context.listen(Note(f"the base model against itself, {metric}: {spread}"))
    if may_have_seen(figures, context.config):
        context.listen(Note(_SEEN.format(metric=context.data.task.metric_name)))
    return figures


def _accuracy(context: Context, network: fx.GraphModule) -> float:
    """Return the base model's score on the search split; 0 is none to compare with."""
    data = context.data
    found = score(network, data.search, data.task, context.config.evaluation.search_images)
    if found == 0:
        where = f" under condition {context.condition}" if context.condition else ""
        raise ModelError(
            f"the base's {data.task.metric_name} on the search split{where} is 0: nothing can be compared with it; "
            f"are the weights for {data.name}, and mean and std those that it was trained with?"
        )
    return found
