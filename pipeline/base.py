"""The base model: traced, trained where no weights were given, measured; everything else is relative to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save
from torch import fx, nn

from pipeline import codec
from pipeline.bench import Bench
from pipeline.context import BATCH, Context
from pipeline.events import Note, Stage
from pipeline.pruning.measures import weigh
from pipeline.pruning.recover import FineTuning, accuracy, fine_tune
from pipeline.pruning.tracing import trace
from pipeline.records import Figures, Measurement
from pipeline.targets import Metric, Target

_LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, kw_only=True)
class Base:
    """The network as the user brought it, its skeleton, and what it answers and costs on the device."""

    network: fx.GraphModule
    probe: bytes
    figures: Figures

    def figure(self, metric: Metric) -> float:
        """Return a figure in the unit of its target: ms, W, mJ, bytes; ValueError where it was not measured."""
        measurement = self.figures.measurement
        if metric == "latency":
            return measurement.p50_ms.value
        if metric == "size":
            return float(self.figures.size_bytes)
        if measurement.power is None:
            raise ValueError(f"{metric} was not measured")
        return (measurement.power.mean_w if metric == "power" else measurement.power.energy_total_mj).value

    def limits(self, targets: Sequence[Target]) -> dict[Metric, float]:
        """Return each target's limit as a share of the base model's figure."""
        return {target.metric: target.share(self.figure(target.metric)) for target in targets}


def measured_shares(measurement: Measurement, size: float | None = None) -> Mapping[Metric, float]:
    """Return a measured network's figures over the base model's; what was not measured is absent."""
    shares: dict[Metric, float | None] = {
        "latency": measurement.ratio.value if measurement.ratio else None,
        "power": measurement.power_ratio,
        "energy": measurement.energy_ratio,
        "size": size,
    }
    return {metric: share for metric, share in shares.items() if share is not None}


def make_base(context: Context, model: nn.Module) -> Base:
    """Return the base model of a new or resumed run; weights and figures are kept in the store."""
    network = _network(context, model)
    file = context.format.file(network)
    probe = context.format.probe(file)
    return Base(network=network, probe=probe, figures=_figures(context, network, len(file), probe))


def _network(context: Context, model: nn.Module) -> fx.GraphModule:
    store = context.store
    if known := store.get("base_weights"):
        model.load_state_dict(load_file(store.blob(known)))
    else:
        if context.config.weights is None:
            _train(context, model)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        store.set("base_weights", store.put_blob(save(weights)))
    network = trace(model, context.example)
    # Reading an accuracy lays weights out like this; a resumed run reads none, and sums must round alike in both.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _train(context: Context, model: nn.Module) -> None:
    told, images = context.config.base_training, context.data.train
    settings = FineTuning(
        epochs=told.epochs, learning_rate=told.learning_rate, teacher_mix=0.0, seed=context.config.seed,
        label_smoothing=_LABEL_SMOOTHING,
    )  # fmt: skip
    context.listen(Stage("Train a base model (no weights given)", settings.steps(len(images))))
    fine_tune(model, images, settings, on_step=context.train_step)


def _figures(context: Context, network: fx.GraphModule, size: int, probe: bytes) -> Figures:
    store = context.store
    if known := store.get("base"):
        return codec.load(Figures, known)
    context.listen(Stage("Measure the base model"))
    weight = weigh(network, context.example)
    search = context.data.search.batches(BATCH, limit=context.config.evaluation.search_images)
    figures = Figures(
        search_accuracy=accuracy(network, search), test_accuracy=None, parameters=weight.parameters,
        macs=weight.macs, size_bytes=size, measurement=Bench(context.agent, store, probe).base(),
    )  # fmt: skip
    store.set("base", figures)
    context.listen(
        Note(f"base: {figures.search_accuracy:.1%} on {context.data.name}'s search split, "
             f"{figures.measurement.p50_ms.value:.3g} ms, {weight.parameters:,} parameters, "
             f"{weight.macs / 1e6:.1f} M MACs")
    )  # fmt: skip
    return figures
